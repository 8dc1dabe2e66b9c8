import smtplib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy import local
from tests.local.mail import PASSWORD, deliver, first_in_inbox, mail, tls

STARTTLS, IMPLICIT = "starttls", "implicit"


@contextmanager
def submission(servers: local.Servers, mode: str) -> Iterator[smtplib.SMTP]:
    server = servers.postfix
    if mode == IMPLICIT:
        context = tls(servers)
        with smtplib.SMTP_SSL("localhost", server.submissions, timeout=30, context=context) as smtp:
            yield smtp
        return
    with smtplib.SMTP("localhost", server.submission, timeout=30) as smtp:
        smtp.starttls(context=tls(servers))
        yield smtp


async def test_a_mail_arrives_and_says_for_whom_it_was(servers: local.Servers) -> None:
    local.add_mail_user(servers, "parcels@example.com", PASSWORD)
    assert deliver(servers, mail("all@example.com"), "parcels+printers@example.com") == {}
    arrived = await first_in_inbox(servers, "parcels@example.com")
    assert arrived["X-Original-To"] == "parcels+printers@example.com"
    assert arrived["Delivered-To"] == "parcels+printers@example.com"
    assert arrived["Return-Path"] == "<anna@customer.test>"


async def test_each_recipient_gets_its_own_x_original_to(servers: local.Servers) -> None:
    addresses = ["one@example.com", "two@example.com"]
    for address in addresses:
        local.add_mail_user(servers, address, PASSWORD)
    deliver(servers, mail("all@example.com"), *addresses)
    for address in addresses:
        assert (await first_in_inbox(servers, address))["X-Original-To"] == address


async def test_a_mail_without_message_id_and_date_stays_so(servers: local.Servers) -> None:
    local.add_mail_user(servers, "bare@example.com", PASSWORD)
    deliver(servers, mail("bare@example.com"))
    arrived = await first_in_inbox(servers, "bare@example.com")
    assert arrived["Message-ID"] is None
    assert arrived["Date"] is None


async def test_a_mail_of_60_mb_passes(servers: local.Servers) -> None:
    # By default Postfix takes 10 MB.
    local.add_mail_user(servers, "large@example.com", PASSWORD)
    text = (b"x" * 76 + b"\r\n") * (60_000_000 // 78)
    with smtplib.SMTP(servers.postfix.host, servers.postfix.smtp, timeout=60) as smtp:
        smtp.sendmail("anna@customer.test", ["large@example.com"], b"Subject: large\r\n\r\n" + text)
    arrived = await first_in_inbox(servers, "large@example.com")
    assert len(arrived.get_payload()) == len(text)


async def test_a_mail_to_nobody_bounces_with_a_report(servers: local.Servers) -> None:
    local.add_mail_user(servers, "nobodys-friend@customer.test", PASSWORD)
    deliver(servers, mail("nobody@example.com", sender="nobodys-friend@customer.test"))
    bounce = await first_in_inbox(servers, "nobodys-friend@customer.test")
    assert bounce["Return-Path"] == "<>"
    assert bounce.get_content_type() == "multipart/report"
    assert "Status: 5.1.1" in str(bounce)


@pytest.mark.parametrize(
    ("recipient", "code", "status"),
    [("tempfail@customer.test", 451, b"4.7.1"), ("permfail@customer.test", 550, b"5.1.1")],
)
async def test_recipients_that_fail_on_purpose_leave_the_others_alone(
    servers: local.Servers, recipient: str, code: int, status: bytes
) -> None:
    other = f"beside-{code}@customer.test"
    local.add_mail_user(servers, other, PASSWORD)
    refused = deliver(servers, mail(other), other, recipient)
    assert list(refused) == [recipient]
    assert refused[recipient][0] == code
    assert refused[recipient][1].startswith(status)
    assert await first_in_inbox(servers, other)


@pytest.mark.parametrize("mode", [STARTTLS, IMPLICIT])
async def test_submission_takes_mail_of_who_logs_in(servers: local.Servers, mode: str) -> None:
    local.add_mail_user(servers, "agent@example.com", PASSWORD)
    local.add_mail_user(servers, f"{mode}@customer.test", PASSWORD)
    message = mail(f"{mode}@customer.test", sender="agent@example.com")
    with submission(servers, mode) as smtp:
        smtp.login("agent@example.com", PASSWORD)
        assert smtp.send_message(message) == {}
    assert await first_in_inbox(servers, f"{mode}@customer.test")


@pytest.mark.parametrize("mode", [STARTTLS, IMPLICIT])
def test_submission_takes_nothing_without_a_login(servers: local.Servers, mode: str) -> None:
    local.add_mail_user(servers, "parcels@example.com", PASSWORD)
    with (
        submission(servers, mode) as smtp,
        pytest.raises(smtplib.SMTPRecipientsRefused, match="Client host rejected"),
    ):
        smtp.send_message(mail("parcels@example.com"))


def test_submission_wants_tls_before_it_takes_a_password(servers: local.Servers) -> None:
    with smtplib.SMTP("localhost", servers.postfix.submission, timeout=30) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        assert smtp.docmd("MAIL", "FROM:<agent@example.com>")[0] == 530


def test_errors_are_answered_at_once_however_many(servers: local.Servers) -> None:
    # By default Postfix sleeps a second after each, and hangs up on the 20th.
    began = time.monotonic()
    with smtplib.SMTP(servers.postfix.host, servers.postfix.smtp, timeout=30) as smtp:
        smtp.ehlo()
        smtp.mail("anna@customer.test")
        for _ in range(30):
            assert smtp.rcpt("permfail@example.com")[0] == 550
    assert time.monotonic() - began < 5


def test_a_stranger_cannot_send_through_us_to_the_world(servers: local.Servers) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="Relay access denied"):
        deliver(servers, mail("anna@customer.invalid"))


def test_nothing_leaves_the_machine_even_with_a_login(servers: local.Servers) -> None:
    local.add_mail_user(servers, "agent@example.com", PASSWORD)
    with submission(servers, IMPLICIT) as smtp:
        smtp.login("agent@example.com", PASSWORD)
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="nothing leaves this machine"):
            smtp.send_message(mail("anna@customer.invalid", sender="agent@example.com"))
