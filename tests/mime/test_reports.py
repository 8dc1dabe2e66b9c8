import pytest

from mailroom.mime import Recipient, Report, read
from mailroom.mime.reasons import is_hard

RETURNED = "Message-ID: <sent@x>\r\nSubject: Offer\r\nTo: a@b.example\r\nFrom: us@x.example\r\n"


def report(raw: str) -> Report:
    mail = read(raw.replace("\n", "\r\n").replace("\r\r", "\r").encode())
    assert mail.auto == "report"
    assert mail.report is not None
    return mail.report


def dsn(*groups: str, notice: str = "It failed.", kind: str = "multipart/report") -> str:
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.example>\n"
        f"Content-Type: {kind}; report-type=delivery-status; boundary=b\n\n"
        f"--b\n\n{notice}\n--b\nContent-Type: message/delivery-status\n\n"
        + "\n\n".join(("Reporting-MTA: dns; mx.example", *groups))
        + f"\n\n--b\nContent-Type: message/rfc822\n\n{RETURNED}\nHello\n--b--\n"
    )


def group(address: str, action: str, status: str, diagnosis: str = "") -> str:
    return (
        f"Final-Recipient: rfc822; {address}\nOriginal-Recipient: rfc822;{address}\n"
        f"Action: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {diagnosis}"
    )


def test_a_report_tells_each_recipient_and_the_mail_it_concerns() -> None:
    found = report(
        dsn(
            group("a@b.example", "failed", "5.1.1", "550 5.1.1 <a@b.example>: User unknown"),
            group("c@d.example", "delayed", "4.4.1", "connect to d.example: timed out"),
            group("e@f.example", "delivered", "2.1.5", "250 Ok"),
        )
    )
    assert found == Report(
        recipients=(
            Recipient("a@b.example", "failed", "5.1.1", hard=True),
            Recipient("c@d.example", "delayed", "4.4.1", hard=False),
            Recipient("e@f.example", "delivered", "2.1.5", hard=False),
        ),
        message_id="sent@x",
        subject="Offer",
    )


def test_a_report_under_another_type_is_known_by_its_part() -> None:
    assert len(report(dsn(group("a@b", "failed", "5.1.1"), kind="multipart/mixed")).recipients) == 1


def test_the_address_that_was_written_to_is_told_rather_than_where_it_was_forwarded() -> None:
    forwarded = (
        "Original-Recipient: rfc822;a@b\nFinal-Recipient: rfc822;z@y\nAction: failed\nStatus: 5.1.1"
    )
    assert report(dsn(forwarded)).recipients[0].address == "a@b"


def test_a_status_that_tells_nothing_is_read_from_the_answer_of_the_host() -> None:
    found = report(dsn(group("a@b", "failed", "5.0.0", "552 5.2.2 Mailbox full")))
    assert found.recipients[0] == Recipient("a@b", "failed", "5.2.2", hard=False)


def test_a_feedback_report_tells_who_complained_and_calls_no_address_bad() -> None:
    found = report(
        "From: fbl@isp.example\nContent-Type: multipart/report; boundary=b\n\n"
        "--b\n\nabuse report\n--b\nContent-Type: message/feedback-report\n\n"
        "Feedback-Type: abuse\nOriginal-Rcpt-To: a@b\nOriginal-Rcpt-To: c@d\n\n"
        f"--b\nContent-Type: text/rfc822-headers\n\n{RETURNED}\n--b--\n"
    )
    assert found.recipients == (
        Recipient("a@b", "feedback", "", hard=False),
        Recipient("c@d", "feedback", "", hard=False),
    )
    assert found.message_id == "sent@x"


def test_a_receipt_is_a_report_without_recipients() -> None:
    found = report(
        "From: a@b\nContent-Type: multipart/report; report-type=disposition-notification; "
        "boundary=b\n\n--b\n\nread\n--b\nContent-Type: message/disposition-notification\n\n"
        "Disposition: manual-action; displayed\n\n--b--\n"
    )
    assert found.recipients == ()


def test_a_notification_of_amazon_ses_is_a_report() -> None:
    told = (
        '{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"a@b.example",'
        '"status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown"}]},'
        '"mail":{"commonHeaders":{"messageId":"<sent@x>","subject":"Offer"}}}\n\n--\nUnsubscribe'
    )
    found = report(f"From: SES <no-reply@sns.amazonaws.com>\nSubject: AWS Notification\n\n{told}")
    assert found == Report(
        (Recipient("a@b.example", "failed", "5.1.1", hard=True),), "sent@x", "Offer"
    )
    stranger = read(f"From: joe@x.example\r\nSubject: our JSON\r\n\r\n{told}".encode())
    assert stranger.auto == "none"


EXIM = """From: Mail Delivery System <Mailer-Daemon@mx.example>
Subject: Mail delivery failed: returning message to sender
To: us@x.example
X-Failed-Recipients: a@b.example

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  a@b.example
    SMTP error from remote mail server after RCPT TO:<a@b.example>:
    host mx.b.example [192.0.2.1]: 550 5.1.1 <a@b.example>: no such user

------ This is a copy of the message, including all the headers. ------

"""
QMAIL = """From: MAILER-DAEMON@mx.example
Subject: failure notice
To: us@x.example

Hi. This is the qmail-send program at mx.example.
I'm afraid I wasn't able to deliver your message to the following addresses.

<a@b.example>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 unknown user
Giving up on 192.0.2.1.

<c@d.example>:
Remote host said: 552 5.2.2 over quota
Giving up on 192.0.2.2.

--- Below this line is a copy of the message.

"""
EXCHANGE = """From: postmaster@x.example
Subject: Undeliverable: Offer
Return-Path: <>
To: us@x.example

Your message

  To:      someone
  Subject: Offer

did not reach the following recipient(s):

a@b.example on Thu, 29 Apr 2007 16:51:51 -0500
    The recipient name is not recognized

"""
OPENSMTPD = """From: Mailer Daemon <MAILER-DAEMON@x.example>
Subject: Delivery status notification: error
To: us@x.example

    An error has occurred while attempting to deliver a message for
    the following list of recipients:

a@b.example: 550 5.1.1 unknown recipient

    Below is a copy of the original message:

"""
GERMAN = """From: mailer-daemon@x.example
Subject: Unzustellbar: Angebot
To: us@x.example

Ihre Nachricht an a@b.example wurde nicht zugestellt.
Der Empfänger ist unbekannt.

"""


@pytest.mark.parametrize(
    ("notice", "hard"),
    [
        (EXIM, {"a@b.example": True}),
        (QMAIL, {"a@b.example": True, "c@d.example": False}),
        (EXCHANGE, {"a@b.example": True}),
        (OPENSMTPD, {"a@b.example": True}),
        (GERMAN, {"a@b.example": True}),
    ],
    ids=["Exim", "qmail", "Exchange", "OpenSMTPD", "German"],
)
def test_a_notice_for_people_is_taken_apart(notice: str, hard: dict[str, bool]) -> None:
    found = report(notice + RETURNED + "\nHello\n")
    assert {one.address: one.hard for one in found.recipients} == hard
    assert (found.message_id, found.subject) == ("sent@x", "Offer")


def test_a_notice_that_only_warns_is_a_delay() -> None:
    found = report(
        "From: MAILER-DAEMON@x.example\nSubject: Warning: message delayed\n\n"
        "Delivery to the following recipient has been delayed:\n\n     a@b.example\n\n"
        "It will be retried for 2 more days. 550 user unknown\n"
    )
    assert found.recipients == (Recipient("a@b.example", "delayed", "", hard=False),)


def test_a_person_who_forwards_a_report_is_a_person() -> None:
    forwarded = read(
        ("From: Joe <joe@x.example>\r\nSubject: Fwd: failure notice\r\n\r\n" + QMAIL).encode()
    )
    attached = read(
        (
            "From: Joe <joe@x.example>\r\nSubject: what is that?\r\n"
            "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nsee below\r\n--o\r\n"
            "Content-Type: message/rfc822\r\n\r\n" + dsn(group("a@b", "failed", "5.1.1")) + "--o--"
        ).encode()
    )
    assert (forwarded.auto, attached.auto) == ("none", "none")


@pytest.mark.parametrize("path", ["", "Return-Path: <>\r\n", "Return-Path: <x@parcel.example>\r\n"])
def test_a_parcel_that_was_not_delivered_is_no_report(path: str) -> None:
    parcel = (
        "From: Parcel <no-reply@parcel.example>\r\nSubject: Delivery status: not delivered\r\n\r\n"
    )
    body = "Your parcel 4711 could not be delivered. Questions? https://parcel.example/\r\n"
    assert read((path + parcel + body).encode()).report is None


@pytest.mark.parametrize(
    ("status", "said", "hard"),
    [
        ("5.1.1", "550 5.1.1 <a@b>: Recipient address rejected: User unknown in table", True),
        ("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist.", True),
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", True),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied", True),
        ("5.1.2", "Host or domain name not found. Name service error for name=b.example", True),
        ("5.1.10", "556 5.1.10 Domain b.example does not accept mail (nullMX)", True),
        ("5.1.6", "551 5.1.6 recipient no longer on server; has moved to c@d", True),
        ("", "550 No such user here", True),
        ("5.2.2", "552 5.2.2 mailbox full", False),
        ("5.1.1", "550 5.1.1 sorry, mailbox is over quota", False),
        ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", False),
        ("5.7.1", "550 5.7.1 Message rejected as spam by content filter", False),
        (
            "5.7.1",
            "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org",
            False,
        ),
        (
            "5.7.26",
            "550-5.7.26 Unauthenticated email from x is not accepted due to DMARC policy",
            False,
        ),
        ("5.7.1", "554 5.7.1 <a@b>: Relay access denied", False),
        ("5.1.8", "553 5.1.8 <us@x>: Sender address rejected: Domain not found", False),
        ("4.4.1", "connect to b.example[192.0.2.1]:25: Connection timed out", False),
        ("5.4.6", "554 5.4.6 Too many hops", False),
        ("5.2.1", "550 5.2.1 The email account is disabled", False),
        ("4.2.0", "450 4.2.0 <a@b>: Recipient address rejected: Greylisted", False),
        ("5.0.0", "550 user unknown (in reply to MAIL FROM command)", False),
        ("4.2.0", "450 4.2.0 <a@b>: user unknown", False),
        ("5.0.0", "", False),
    ],
)
def test_only_a_finally_bad_address_is_hard(status: str, said: str, *, hard: bool) -> None:
    assert is_hard(status, said) is hard
