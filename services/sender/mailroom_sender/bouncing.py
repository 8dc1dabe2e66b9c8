"""From a delivery report to the mail of ours that it tells of.

Invariant: anybody can send us a report. It is believed only for a Message-ID that we made and for
recipients that we sent it to; and each report is told once for each of them.
"""

from collections.abc import Sequence
from operator import itemgetter
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, mime, objects
from mailroom.contracts import MailBounced, MailRouted
from mailroom.messaging.envelope import Outgoing, Received, caused_by
from mailroom.mime import Report
from mailroom.objects import ObjectStore
from mailroom_sender import loading
from mailroom_sender.requests import Request
from mailroom_sender.tables import bounces

TELLING = ("failed", "delayed")
"""Actions (RFC 3464 section 2.3.3) that say that somebody has not got it."""


def told(report: Report, request: Request, told_by: UUID) -> list[MailBounced]:
    """What a report says of the recipients of this mail.

    Who forwards mail reports the address forwarded to; where there was one recipient, it is his.
    """
    ours = {target.address.lower(): target.address for target in request.targets}
    only = request.targets[0].address if len(request.targets) == 1 else None
    bounced = {}
    for recipient in report.recipients:
        address = ours.get(recipient.address.lower(), only)
        if address is not None and recipient.action in TELLING:
            bounced[address] = MailBounced(
                mail=request.mail,
                recipient=address,
                action=recipient.action,
                status=recipient.status,
                hard=recipient.hard,
                report=told_by,
            )
    return list(bounced.values())


async def bounce(
    tx: AsyncConnection, objects_: ObjectStore, reports: Sequence[Received[MailRouted]]
) -> list[Outgoing]:
    """Find the mails of ours that these reports tell of, and tell it, once."""
    read = [(received, await _report(objects_, received.event)) for received in reports]
    ids = {report.message_id for _, report in read if report and report.message_id}
    requests = await loading.by_message_ids(tx, ids)
    told_: dict[tuple[UUID, str, UUID], Outgoing] = {}
    for received, report in read:
        request = requests.get(report.message_id or "") if report else None
        if report is None or request is None:
            continue
        for event in told(report, request, received.event.mail):
            told_.setdefault(
                (event.mail, event.recipient, event.report), caused_by(received, event)
            )
    return await _new(tx, told_)


async def _report(objects_: ObjectStore, event: MailRouted) -> Report | None:
    if event.parsed is None:
        return None
    return mime.from_json(await objects.get(objects_, event.parsed.sha256)).report


async def _new(
    tx: AsyncConnection, told_: dict[tuple[UUID, str, UUID], Outgoing]
) -> list[Outgoing]:
    """Those that were not told before: one report may arrive through several accounts."""
    if not told_:
        return []
    now = clock.now()
    rows = [
        {
            **outgoing.event.model_dump(include={"action", "status", "hard"}),
            "mail": mail,
            "recipient": recipient,
            "report": report,
            "bounced_at": now,
        }
        for (mail, recipient, report), outgoing in sorted(told_.items(), key=itemgetter(0))
    ]
    new = insert(bounces).values(rows).on_conflict_do_nothing()
    added = await tx.execute(new.returning(bounces.c.mail, bounces.c.recipient, bounces.c.report))
    return [told_[row.mail, row.recipient, row.report] for row in added]
