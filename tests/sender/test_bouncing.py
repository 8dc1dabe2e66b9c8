"""A delivery report is told for the mail of ours that it concerns, once, and no stranger's."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from mailroom import clock, mime, objects
from mailroom.contracts import MailRouted
from mailroom.mime import Recipient, Report
from mailroom_sender import service, store
from mailroom_sender.bouncing import told
from mailroom_sender.requests import Request
from tests.sender.office import Office, received, to

REPORT = UUID(int=7)


async def request_of(office: Office, *addresses: str) -> Request:
    row = await office.row(await office.ask(to=to(*addresses)))
    async with office.resources.engine.begin() as tx:
        request = await store.get(tx, row["mail"])
    assert request is not None
    return request


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


async def test_a_report_is_believed_for_recipients_of_that_mail_alone(office: Office) -> None:
    request = await request_of(office, "anna@example.com", "bert@example.com")
    report = failing("ANNA@example.com", "boss@example.com")
    assert [event.recipient for event in told(report, request, REPORT)] == ["anna@example.com"]


async def test_of_forwarded_mail_the_only_recipient_is_meant(office: Office) -> None:
    request = await request_of(office, "anna@example.com")
    (event,) = told(failing("elsewhere@other.example"), request, REPORT)
    assert event.recipient == "anna@example.com"


async def test_what_was_delivered_after_all_is_not_told(office: Office) -> None:
    request = await request_of(office, "anna@example.com")
    delivered = Recipient("anna@example.com", "delivered", "2.0.0", hard=False)
    assert told(replace(failing(), recipients=(delivered,)), request, REPORT) == []


async def routed(
    office: Office, raw: bytes, auto: str = "report", mail: UUID | None = None
) -> None:
    """What the router says of a mail that came in."""
    stored = office.resources.objects
    read = json.dumps(mime.to_json(mime.read(raw))).encode()
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
