"""Events as they come from the broker, and handlers run as the service runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import text

from mailroom.contracts import (
    Answers,
    Contract,
    MailRouted,
    MailSend,
    MailSent,
    ObjectRef,
    Recipient,
    RecordRef,
)
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.service import Handler, Resources
from mailroom_ticketing import loading
from mailroom_ticketing.dialogue import dialogue
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.service import open_or_join, record_sent
from mailroom_ticketing.settings import TicketingSettings
from tests.ticketing.desk import ACCOUNT, NOON, SERVICE_MAILBOX

E = TypeVar("E", bound=Contract)


@dataclass(frozen=True)
class Bench:
    """Handlers on a real database; what they return is kept by nobody."""

    resources: Resources[TicketingSettings]

    async def handle(self, handler: Handler, *events: Received[Any]) -> Sequence[Outgoing]:
        """A batch in a transaction, committed."""
        async with self.resources.engine.begin() as tx:
            return await handler(tx, events, self.resources)

    async def bring(self, *mails: TicketMail, mailbox: UUID = SERVICE_MAILBOX) -> list[MailSend]:
        """Route mails in one batch; what is to be sent."""
        events = [came(routed(each, mailbox), correlation_id=str(each.id)) for each in mails]
        return [each.event for each in await self.handle(open_or_join, *events)]  # type: ignore[misc]

    async def sent(self, *sends: MailSend) -> list[MailSent]:
        """Let mails leave; what the sender tells of it."""
        events = [departed(each) for each in sends]
        causes = [str(each.answers.mail) if each.answers else "" for each in sends]
        pairs = zip(events, causes, strict=True)
        await self.handle(record_sent, *(came(one, "sender", cause) for one, cause in pairs))
        return events

    async def rows(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        """What a query says."""
        async with self.resources.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql), values)]

    async def times(self, number: int) -> list[datetime]:
        """When the mails of a ticket were written, as its dialogue says, in order."""
        async with self.resources.engine.begin() as tx:
            shown = await dialogue(tx, (await loading.tickets(tx, {number}))[number])
        return [each.at for each in shown.entries if each.mail]


def came(event: E, publisher: str = "router", correlation_id: str = "c") -> Received[E]:
    """An event as it is received."""
    return Received(str(uuid4()), event, publisher, correlation_id, NOON)


def routed(mail: TicketMail, mailbox: UUID = SERVICE_MAILBOX) -> MailRouted:
    """The event of a mail of `desk`."""
    people = {"from": [mail.author] if mail.author else []}
    return MailRouted.model_validate(
        {
            **people,
            "mail": mail.id,
            "placement": uuid4(),
            "mailbox": mailbox,
            "mailbox_kind": "central",
            "account": ACCOUNT,
            "arrival": uuid4(),
            "direction": mail.direction,
            "message_id": mail.message_id,
            "references": mail.references,
            "reply_to": [mail.customer] if mail.customer != mail.author else [],
            "to": [{"address": each} for each in mail.recipients],
            "return_path": "" if mail.null_path else mail.senders[0],
            "subject": mail.subject,
            "date": mail.date,
            "auto": mail.auto,
            "spam": mail.spam,
            "raw": mail.raw,
            "parsed": None,
            "backfill": mail.backfill,
            "rule": "account",
            "reason": "a test",
            "received_at": mail.received_at,
        }
    )


def departed(send: MailSend, publisher: str = "ticketing") -> MailSent:
    """What the sender tells when a request left."""
    return MailSent(
        publisher=publisher,
        idempotency_key=send.idempotency_key,
        mail=uuid4(),
        account=ACCOUNT,
        message_id=f"{uuid4()}@acme.example",
        record=send.record,
        accepted=tuple(Recipient(address=each.address, code=250) for each in send.to + send.cc),
        subject=f"Re: {send.tag} {send.subject.removeprefix('Re: ')}",
        answers=send.answers or Answers(),
        tag=send.tag,
        auto=send.auto,
        smtp_reply="250 2.0.0 Ok: queued",
        raw=ObjectRef(sha256="1" * 64, size=1),
        sent_at=NOON,
    )


def record(number: int) -> RecordRef:
    """A ticket, as the contracts name it."""
    return RecordRef(kind="ticket", id=str(number))
