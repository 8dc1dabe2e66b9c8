import imaplib
import ssl
import time
from contextlib import ExitStack

import pytest

from deploy import local
from tests.local.mail import PASSWORD, logged_in, tls
from tests.waiting import until


def test_a_new_user_can_log_in_at_once(servers: local.Servers) -> None:
    for number in range(3):
        address = f"new{number}@example.com"
        local.add_mail_user(servers, address, PASSWORD)
        with logged_in(servers, address) as imap:
            assert imap.select("INBOX")[0] == "OK"


async def test_a_changed_password_and_a_removed_user_take_effect(servers: local.Servers) -> None:
    address = "leaver@example.com"
    local.add_mail_user(servers, address, "first")

    def may_log_in(password: str) -> bool:
        try:
            with logged_in(servers, address, password):
                return True
        except imaplib.IMAP4.error:
            return False

    assert may_log_in("first")
    local.add_mail_user(servers, address, "other")
    assert await until(lambda: may_log_in("other"), within=5)
    assert not may_log_in("first")
    local.remove_mail_user(servers, address)
    assert await until(lambda: not may_log_in("other"), within=5)


def test_folders_have_their_special_use(servers: local.Servers) -> None:
    local.add_mail_user(servers, "folders@example.com", PASSWORD)
    with logged_in(servers, "folders@example.com") as imap:
        listed = [str(line) for line in imap.list()[1]]
    for name in ("Sent", "Drafts", "Junk", "Trash"):
        assert any(f"\\{name}" in line and line.endswith(f"{name}'") for line in listed), listed


def test_what_the_fetcher_builds_on_is_announced(servers: local.Servers) -> None:
    local.add_mail_user(servers, "capable@example.com", PASSWORD)
    with logged_in(servers, "capable@example.com") as imap:
        announced = imap.capability()[1][0].decode().split()
    assert {"IDLE", "CONDSTORE", "QRESYNC", "MOVE", "UIDPLUS", "SPECIAL-USE"} <= set(announced)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_certificate_is_verified_by_the_authority(servers: local.Servers, host: str) -> None:
    imaplib.IMAP4_SSL(host, servers.dovecot.imaps, ssl_context=tls(servers)).shutdown()
    starttls = imaplib.IMAP4(host, servers.dovecot.imap)
    starttls.starttls(tls(servers))
    starttls.shutdown()


def test_the_certificate_is_worth_nothing_without_the_authority(servers: local.Servers) -> None:
    strangers = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        imaplib.IMAP4_SSL("localhost", servers.dovecot.imaps, ssl_context=strangers)


def test_one_user_may_hold_many_sessions(servers: local.Servers) -> None:
    # Dovecot's default is 10 a user and address.
    local.add_mail_user(servers, "busy@example.com", PASSWORD)
    with ExitStack() as sessions:
        for _ in range(15):
            sessions.enter_context(logged_in(servers, "busy@example.com"))


def test_wrong_passwords_are_refused_soon_however_often(servers: local.Servers) -> None:
    # By default Dovecot waits 2 s, and longer with each failure from one address.
    began = time.monotonic()
    for _ in range(5):
        with (
            pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
            logged_in(servers, "nobody@example.com", "wrong"),
        ):
            pass
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("address", ["../x@example.com", "x/y@example.com", "x", "a+b@example.com"])
def test_an_address_that_cannot_be_is_refused(servers: local.Servers, address: str) -> None:
    with pytest.raises(local.AddressRefused, match="give name@domain"):
        local.add_mail_user(servers, address, PASSWORD)
