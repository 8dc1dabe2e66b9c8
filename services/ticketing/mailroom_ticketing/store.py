"""Ticketing's tables, and what is asked of them one by one.

Invariant: a mail has one row and so at most one ticket; a mailbox feeds at most one ticket queue;
of the holders of a Message-ID no two have the same position. `loading.py` and `recording.py` read
and write a batch under locks; these keys hold should a lock ever fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    Table,
    Text,
    Uuid,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import directory
from mailroom.arrays import rows_of
from mailroom.contracts import Address, MailSend, MailSent
from mailroom.messaging.envelope import Received
from mailroom.messaging.tables import messaging_tables
from mailroom_ticketing.composing import Request
from mailroom_ticketing.known import TicketQueue
from mailroom_ticketing.outcomes import Outcome, What

metadata = MetaData(schema="ticketing")
messaging = messaging_tables(metadata)


def _when(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


ticket_queue = Table(
    "ticket_queue",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("account", Uuid, nullable=False),
    Column("language", Text, nullable=False),
    Column("acknowledge", Boolean, nullable=False),
    _when("created_at"),
    CheckConstraint("language IN ('de', 'en')", name="ticket_queue_language"),
    Index("ticket_queue_name", text("lower(name)"), unique=True),
)

feed = Table(
    "feed",
    metadata,
    Column("mailbox", Uuid, primary_key=True),
    Column("ticket_queue", ForeignKey(ticket_queue.c.id), nullable=False, index=True),
)

ticket = Table(
    "ticket",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("ticket_queue", ForeignKey(ticket_queue.c.id), nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("customer", JSONB(none_as_null=True)),
    Column("subject", Text, nullable=False),
    _when("created_at"),
    _when("updated_at"),
    _when("last_incoming_at", nullable=True),
    CheckConstraint("state IN ('new', 'open', 'waiting', 'closed')", name="ticket_state"),
    CheckConstraint("priority IN ('low', 'normal', 'high', 'urgent')", name="ticket_priority"),
    Index("ticket_by_queue_and_state", "ticket_queue", "state", "number"),
)

mail = Table(
    "mail",
    metadata,
    Column("mail", Uuid, primary_key=True),
    # Null: it found no ticket yet, and joins when a mail of its conversation does.
    Column("ticket", ForeignKey(ticket.c.number), index=True),
    Column("direction", Text, nullable=False),
    Column("message_id", Text),
    Column("references", ARRAY(Text), nullable=False),
    Column("senders", ARRAY(Text), nullable=False),
    Column("recipients", ARRAY(Text), nullable=False),
    Column("author", JSONB(none_as_null=True)),
    Column("customer", JSONB(none_as_null=True)),
    Column("subject", Text, nullable=False),
    _when("date", nullable=True),
    Column("auto", Text, nullable=False),
    Column("backfill", Boolean, nullable=False),
    Column("raw_sha256", Text, nullable=False),
    Column("raw_size", BigInteger, nullable=False),
    _when("received_at"),
    Column("correlation_id", Text, nullable=False, index=True),
    Column("rule", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    _when("decided_at"),
)

message_id = Table(
    "message_id",
    metadata,
    # A hash: a Message-ID may be longer than a B-tree takes (2,704 bytes).
    Column("key", LargeBinary, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("mail", ForeignKey(mail.c.mail), nullable=False),
    Column("own", Boolean, nullable=False),
)

participant = Table(
    "participant",
    metadata,
    Column("ticket", ForeignKey(ticket.c.number), primary_key=True),
    Column("address", Text, primary_key=True),
)

suggestion = Table(
    "suggestion",
    metadata,
    Column("mail", ForeignKey(mail.c.mail), primary_key=True),
    Column("ticket", ForeignKey(ticket.c.number), primary_key=True, index=True),
    Column("claim", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    _when("suggested_at"),
)

placement = Table(
    "placement",
    metadata,
    Column("placement", Uuid, primary_key=True),
    Column("mail", Uuid, nullable=False, index=True),
    Column("mailbox", Uuid, nullable=False),
    Column("account", Uuid, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("ticket", ForeignKey(ticket.c.number)),
    Column("withheld", Text),
    Column("correlation_id", Text, nullable=False, index=True),
    _when("received_at"),
    _when("decided_at"),
)

request = Table(
    "request",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("ticket", ForeignKey(ticket.c.number), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("ticket_queue", ForeignKey(ticket_queue.c.id), nullable=False),
    Column("correspondent", Text, nullable=False),
    Column("answers", Uuid, index=True),
    # The whole `mail.send`: what a second press is compared with, and what `ticket show` prints.
    Column("send", JSONB, nullable=False),
    Column("correlation_id", Text, nullable=False, index=True),
    _when("requested_at"),
    Index(
        "request_automatic",
        "correspondent",
        "requested_at",
        postgresql_where=text("kind = 'acknowledgement'"),
    ),
)

outcome = Table(
    "outcome",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("idempotency_key", Text, nullable=False, index=True),
    Column("what", Text, nullable=False),
    Column("mail", Uuid, index=True),
    Column("words", Text, nullable=False),
    _when("at"),
)


# Built once: docs/decisions/statements-are-built-once.md.
_KEYS = rows_of("keys", Text)
_ASKED_AT = select(request.c.idempotency_key, request.c.requested_at).join(
    _KEYS, _KEYS.c.value == request.c.idempotency_key
)
_FEEDS = select(feed.c.mailbox, ticket_queue).join(ticket_queue)


async def feeds(tx: AsyncConnection) -> dict[UUID, TicketQueue]:
    """Every mailbox that feeds a ticket queue."""
    rows = await tx.execute(_FEEDS)
    return {row.mailbox: as_ticket_queue(row) for row in rows}


def as_ticket_queue(row: Any) -> TicketQueue:
    """A row of `ticket_queue` as the rules take it."""
    return TicketQueue(row.id, row.name, row.account, row.language, row.acknowledge)


async def senders(tx: AsyncConnection) -> dict[UUID, Address]:
    """Account → the address that its mails come from."""
    accounts = (await directory.snapshot(tx)).accounts
    return {each.id: Address(name=each.display_name, address=each.address) for each in accounts}


async def asked_at(
    tx: AsyncConnection, events: Sequence[Received[MailSent]]
) -> dict[str, datetime]:
    """Idempotency key → when the sender was asked for that mail."""
    keys = [each.event.idempotency_key for each in events]
    rows = await tx.execute(_ASKED_AT, {"keys": keys})
    return {row.idempotency_key: row.requested_at for row in rows}


def as_address(stored: Mapping[str, str] | None) -> Address | None:
    """An address as it stands in a row."""
    return Address.model_validate(stored) if stored else None


async def add_requests(tx: AsyncConnection, requests: Sequence[Request]) -> None:
    """Remember what the sender is asked for."""
    if requests:
        await tx.execute(insert(request), [_request_row(each) for each in requests])


async def renew_request(tx: AsyncConnection, asked: Request) -> None:
    """Remember that the sender is asked again, with the same key."""
    same = request.c.idempotency_key == asked.send.idempotency_key
    await tx.execute(update(request).where(same).values(_request_row(asked)))


def _request_row(asked: Request) -> dict[str, Any]:
    send = asked.send
    return {
        "idempotency_key": send.idempotency_key,
        "ticket": asked.ticket.number,
        "kind": asked.kind,
        "ticket_queue": asked.ticket.queue.id,
        "correspondent": asked.correspondent,
        "answers": send.answers.mail if send.answers else None,
        "send": send.model_dump(mode="json", exclude_none=True),
        "correlation_id": asked.correlation_id,
        "requested_at": asked.requested_at,
    }


async def add_outcomes(tx: AsyncConnection, outcomes: Sequence[Outcome]) -> None:
    """Remember what became of requests."""
    if outcomes:
        rows = [asdict(each) for each in outcomes]
        await tx.execute(insert(outcome).on_conflict_do_nothing(), rows)


async def ticket_queues(tx: AsyncConnection) -> list[tuple[TicketQueue, frozenset[UUID]]]:
    """All ticket queues by name, with the mailboxes that feed them."""
    fed: dict[int, set[UUID]] = {}
    for row in await tx.execute(select(feed)):
        fed.setdefault(row.ticket_queue, set()).add(row.mailbox)
    rows = await tx.execute(select(ticket_queue).order_by(func.lower(ticket_queue.c.name)))
    return [(as_ticket_queue(row), frozenset(fed.get(row.id, ()))) for row in rows]


async def add_ticket_queue(tx: AsyncConnection, queue: TicketQueue, now: datetime) -> int:
    """Add a ticket queue; its new id. Names are unique in any case (23505)."""
    row = {**_queue_row(queue), "created_at": now}
    added = await tx.execute(insert(ticket_queue).returning(ticket_queue.c.id), row)
    number: int = added.scalar_one()
    return number


async def change_ticket_queue(tx: AsyncConnection, queue: TicketQueue) -> None:
    """Store a changed ticket queue. Names are unique in any case (23505)."""
    found = ticket_queue.c.id == queue.id
    await tx.execute(update(ticket_queue).where(found).values(_queue_row(queue)))


def _queue_row(queue: TicketQueue) -> dict[str, Any]:
    return {name: value for name, value in asdict(queue).items() if name != "id"}


async def count_tickets(tx: AsyncConnection, queue: TicketQueue) -> int:
    """How many tickets a ticket queue has, or had."""
    counted = select(func.count()).select_from(ticket).where(ticket.c.ticket_queue == queue.id)
    count: int = (await tx.execute(counted)).scalar_one()
    return count


async def remove_ticket_queue(tx: AsyncConnection, queue: TicketQueue) -> None:
    """Remove a ticket queue and its feeds. It must have no ticket (23503)."""
    await tx.execute(delete(feed).where(feed.c.ticket_queue == queue.id))
    await tx.execute(delete(ticket_queue).where(ticket_queue.c.id == queue.id))


async def add_feed(tx: AsyncConnection, mailbox: UUID, queue: int) -> None:
    """Let a mailbox feed a ticket queue. It must feed no other (23505)."""
    await tx.execute(insert(feed), {"mailbox": mailbox, "ticket_queue": queue})


async def drop_feed(tx: AsyncConnection, mailbox: UUID) -> None:
    """Let a mailbox feed no ticket queue any more; its tickets stay."""
    await tx.execute(delete(feed).where(feed.c.mailbox == mailbox))


async def request_of(tx: AsyncConnection, idempotency_key: str) -> MailSend | None:
    """What was asked for with this key."""
    wanted = select(request.c.send).where(request.c.idempotency_key == idempotency_key)
    found = (await tx.execute(wanted)).scalar_one_or_none()
    return MailSend.model_validate(found) if found else None


async def outcomes_of(tx: AsyncConnection, idempotency_key: str) -> dict[What, str]:
    """What became of the request with this key: each kind of fact, with its newest words."""
    mine = outcome.c.idempotency_key == idempotency_key
    rows = await tx.execute(select(outcome.c.what, outcome.c.words).where(mine).order_by("at"))
    return {row.what: row.words for row in rows}


async def newest_incoming(tx: AsyncConnection, number: int) -> RowMapping | None:
    """The mail of a ticket that a reply answers."""
    wanted = select(mail).where(
        mail.c.ticket == number, mail.c.direction == "in", mail.c.auto != "report"
    )
    newest = wanted.order_by(mail.c.received_at.desc(), mail.c.decided_at.desc()).limit(1)
    return (await tx.execute(newest)).mappings().one_or_none()


async def close(tx: AsyncConnection, number: int, now: datetime) -> bool:
    """Close a ticket; false when it was closed before, or is not there."""
    wanted = (ticket.c.number == number) & (ticket.c.state != "closed")
    closed = await tx.execute(update(ticket).where(wanted).values(state="closed", updated_at=now))
    return closed.rowcount == 1
