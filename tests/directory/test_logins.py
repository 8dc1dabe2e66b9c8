from dataclasses import replace

import pytest

from mailroom_directory.fields import FieldRefused
from mailroom_directory.logins import SealedLogin, plan
from mailroom_directory.server_urls import Login, Protocol

IMAP = Login("imap", "mail.example.com", 993, "implicit", "anna")
SMTP = Login("smtp", "mail.example.com", 465, "implicit", "anna")
KNOWN: dict[Protocol, SealedLogin] = {
    "imap": SealedLogin(IMAP, b"sealed imap"),
    "smtp": SealedLogin(SMTP, b"sealed smtp"),
}


def test_a_new_login_needs_a_password() -> None:
    assert plan({}, [IMAP, SMTP], (), renew=False).ask == (IMAP, SMTP)


def test_what_is_not_named_keeps_its_sealed_password() -> None:
    planned = plan(KNOWN, [], (), renew=False)
    assert planned.ask == ()
    assert planned.keep == (KNOWN["imap"], KNOWN["smtp"])


def test_another_port_or_tls_mode_keeps_the_sealed_password() -> None:
    moved = replace(IMAP, port=143, tls="starttls")
    planned = plan(KNOWN, [moved], (), renew=False)
    assert planned.keep == (SealedLogin(moved, b"sealed imap"), KNOWN["smtp"])


@pytest.mark.parametrize(
    "moved", [replace(IMAP, host="evil.example.com"), replace(IMAP, user="ben")]
)
def test_another_host_or_user_needs_the_password_again(moved: Login) -> None:
    planned = plan(KNOWN, [moved], (), renew=False)
    assert planned.ask == (moved,)
    assert planned.keep == (KNOWN["smtp"],)


def test_a_new_password_is_for_every_login() -> None:
    assert plan(KNOWN, [], (), renew=True).ask == (IMAP, SMTP)


def test_a_dropped_login_goes_with_its_password() -> None:
    assert plan(KNOWN, [], ["smtp"], renew=False).keep == (KNOWN["imap"],)


def test_an_account_without_any_login_is_refused() -> None:
    with pytest.raises(FieldRefused, match="needs --imap, --smtp or both"):
        plan(KNOWN, [], ["imap", "smtp"], renew=False)
