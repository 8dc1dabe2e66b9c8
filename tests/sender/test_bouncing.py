"""A delivery report is told for the mail of ours that it concerns, once, and no stranger's."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from mailroom import clock, mime, objects
from mailroom.contracts import MailRouted, ObjectRef
from mailroom.mime import Recipient, Report
from mailroom_sender import service
from mailroom_sender.bouncing import told
from mailroom_sender.outcomes import Target
from mailroom_sender.requests import Request
from tests.sender.office import Office, received, to
from tests.sender.office import request as asked

REPORT = UUID(int=7)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def request_to(*addresses: str) -> Request:
    return Request(
        mail=UUID(int=1),
        publisher="erp",
        idempotency_key="1",
        content_hash="",
        event_id="",
        correlation_id="",
        account=UUID(int=2),
        sender="office@example.com",
        message_id="x@example.com",
        subject="",
        asked=asked(),
        raw=ObjectRef(sha256="ab" * 32, size=1),
        state="sent",
        due=None,
        tries=1,
        failures=0,
        unknowns=0,
        first_due=NOON,
        expires_at=None,
        accepted_at=NOON,
        sent_at=NOON,
        targets=tuple(Target(address, "accepted") for address in addresses),
    )


def failing(*addresses: str) -> Report:
    recipients = tuple(Recipient(one, "failed", "5.1.1", hard=True) for one in addresses)
    return Report(recipients, message_id="x@example.com", subject=None)


async def test_a_report_of_the_real_postfix_becomes_mail_bounced(office: Office) -> None:
    nobody = f"nobody{uuid4().hex}@example.com"
    async with office.sending():
        await office.ask(to=to(nobody))
        sent = await office.tells("mail.sent")
        (report,) = await office.gets(office.address, within=30)
    await routed(office, report.as_bytes())
    (bounced,) = await office.told("mail.bounced")
    assert (bounced["mail"], bounced["recipient"]) == (sent["mail"], nobody)
    assert (bounced["action"], bounced["status"], bounced["hard"]) == ("failed", "5.1.1", True)


async def test_a_report_is_told_once_though_it_arrives_through_two_accounts(
    office: Office,
) -> None:
    nobody = f"nobody{uuid4().hex}@example.com"
    async with office.sending():
        await office.ask(to=to(nobody))
        (report,) = await office.gets(office.address, within=30)
    mail = uuid4()
    await routed(office, report.as_bytes(), mail=mail)
    await routed(office, report.as_bytes(), mail=mail)
    assert len(await office.told("mail.bounced")) == 1


async def test_what_is_no_report_is_left_alone(office: Office) -> None:
    await routed(office, b"Subject: 5.1.1 <nobody@example.com> unknown\r\n\r\nx\r\n", auto="none")
    await routed(office, b"Subject: odd\r\n\r\nx\r\n", auto="report")
    assert await office.told("mail.bounced") == []


def test_a_report_is_believed_for_recipients_of_that_mail_alone() -> None:
    request = request_to("anna@example.com", "bert@example.com")
    report = failing("ANNA@example.com", "boss@example.com")
    assert [event.recipient for event in told(report, request, REPORT)] == ["anna@example.com"]


def test_of_forwarded_mail_the_only_recipient_is_meant() -> None:
    request = request_to("anna@example.com")
    (event,) = told(failing("elsewhere@other.example"), request, REPORT)
    assert event.recipient == "anna@example.com"


def test_what_was_delivered_after_all_is_not_told() -> None:
    request = request_to("anna@example.com")
    delivered = Recipient("anna@example.com", "delivered", "2.0.0", hard=False)
    assert told(replace(failing(), recipients=(delivered,)), request, REPORT) == []


async def routed(
    office: Office, raw: bytes, auto: str = "report", mail: UUID | None = None
) -> None:
    """What the router says of a mail that came in."""
    stored = office.resources.objects
    read = mime.to_json(mime.read(raw))
    fields: dict[str, Any] = {
        "mail": mail or uuid4(),
        "placement": uuid4(),
        "mailbox": uuid4(),
        "mailbox_kind": "central",
        "account": office.account,
        "arrival": uuid4(),
        "direction": "in",
        "message_id": None,
        "auto": auto,
        "raw": await objects.put(stored, raw),
        "parsed": await objects.put(stored, read),
        "rule": "account",
        "reason": "",
        "received_at": clock.now(),
    }
    event = MailRouted.model_validate(fields)
    await office.handle(service.bounced, received(event, "router"))
