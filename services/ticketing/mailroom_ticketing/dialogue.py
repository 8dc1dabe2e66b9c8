"""A ticket as a person reads it: its mails, what was asked for, what became of it, and claims.

Invariant: nothing is left out. A reply that has not left, or never will, stands among the mails
with the reason; a mail whose bytes are missing stands there with its headers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import Address, MailSend
from mailroom_ticketing.known import Ticket
from mailroom_ticketing.mails import Direction
from mailroom_ticketing.store import as_address, mail, outcome, request, suggestion, ticket
from mailroom_ticketing.store import ticket_queue as queue
from mailroom_ticketing.words import claim, why

Kind = Literal["mail", "acknowledgement", "reply"]

_JOURNEY = timedelta(days=1)
"""A Date from outside that is older than that at arrival is not believed."""


@dataclass(frozen=True)
class Told:
    """A fact about a mail of ours: sent, filed, failed, rejected."""

    at: datetime
    what: str
    words: str


@dataclass(frozen=True)
class Entry:
    """A mail of a ticket, or one that was asked for and has not left."""

    at: datetime
    direction: Direction
    kind: Kind
    sender: str
    recipients: Sequence[str]
    subject: str
    mail: UUID | None
    message_id: str | None
    references: Sequence[str]
    rule: str
    why: str
    raw: str | None
    """SHA-256 of its bytes in the object store; None for what has not left."""
    text: str | None
    """What was asked for; of a mail that is there, the text stands in its bytes."""
    told: Sequence[Told]


@dataclass(frozen=True)
class Claim:
    """Mail that may belong to another ticket than it is at; one of the two is being shown."""

    mail: UUID
    sender: str
    subject: str
    at_ticket: int | None
    perhaps_of: int
    why: str


@dataclass(frozen=True)
class Dialogue:
    """Everything of one ticket, in the order of time."""

    ticket: Ticket
    entries: Sequence[Entry]
    claims: Sequence[Claim]


async def dialogue(tx: AsyncConnection, shown: Ticket) -> Dialogue:
    """Load the dialogue of a ticket."""
    number = shown.number
    mails = await _rows(tx, select(mail).where(mail.c.ticket == number))
    requests = await _rows(tx, select(request).where(request.c.ticket == number))
    keys = [row["idempotency_key"] for row in requests]
    facts = await _rows(tx, select(outcome).where(outcome.c.idempotency_key.in_(keys)))
    claims = await _rows(tx, _claims(number))
    entries = [*_mails(mails, requests, facts), *_not_left(mails, requests, facts)]
    return Dialogue(shown, in_order(entries), [_claim(row) for row in claims])


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """By time, and no mail before one that it answers: clocks differ, and Date counts seconds."""
    at = {entry.message_id: entry.at for entry in entries if entry.message_id}

    def key(entry: Entry) -> tuple[datetime, int, datetime]:
        answered = [at[each] for each in entry.references if each in at]
        return max([entry.at, *answered]), len(answered), entry.at

    return sorted(entries, key=key)


async def _rows(tx: AsyncConnection, wanted: Select[Any]) -> Sequence[RowMapping]:
    rows: Sequence[RowMapping] = (await tx.execute(wanted)).mappings().all()
    return rows


def _claims(number: int) -> Select[Any]:
    found = select(suggestion, mail.c.author, mail.c.subject, mail.c.ticket.label("at_ticket"))
    mine = or_(suggestion.c.ticket == number, mail.c.ticket == number)
    return found.join(mail, mail.c.mail == suggestion.c.mail).where(mine).order_by("suggested_at")


def _mails(
    mails: Iterable[RowMapping], requests: Iterable[RowMapping], facts: Sequence[RowMapping]
) -> list[Entry]:
    kinds = {row["idempotency_key"]: row["kind"] for row in requests}
    key_of = {row["mail"]: row["idempotency_key"] for row in facts if row["mail"]}
    entries = []
    for row in mails:
        key = key_of.get(row["mail"])
        entries.append(
            Entry(
                at=_at(row),
                direction=row["direction"],
                kind=kinds.get(key, "mail"),
                sender=written(as_address(row["author"])),
                recipients=row["recipients"],
                subject=row["subject"],
                mail=row["mail"],
                message_id=row["message_id"],
                references=row["references"],
                rule=row["rule"],
                why=why(row["rule"], row["evidence"]),
                raw=row["raw_sha256"],
                text=None,
                told=_told(facts, key),
            )
        )
    return entries


def _not_left(
    mails: Iterable[RowMapping], requests: Iterable[RowMapping], facts: Sequence[RowMapping]
) -> list[Entry]:
    there = {row["mail"] for row in mails}
    left = {row["idempotency_key"] for row in facts if row["mail"] in there}
    return [_asked(row, facts) for row in requests if row["idempotency_key"] not in left]


def _asked(row: RowMapping, facts: Sequence[RowMapping]) -> Entry:
    send = MailSend.model_validate(row["send"])
    return Entry(
        at=row["requested_at"],
        direction="out",
        kind=row["kind"],
        sender="",
        recipients=[each.address for each in send.to + send.cc],
        subject=send.subject,
        mail=None,
        message_id=None,
        references=_answered(send),
        rule="asked",
        why=f"the sender was asked for it ({send.idempotency_key})",
        raw=None,
        text=send.text,
        told=_told(facts, row["idempotency_key"]),
    )


def _answered(send: MailSend) -> Sequence[str]:
    if send.answers is None:
        return ()
    return [*send.answers.references, *filter(None, [send.answers.message_id])]


def _at(row: RowMapping) -> datetime:
    """When a mail was written; of one from outside, where its Date fits its arrival."""
    written, received = row["date"], row["received_at"]
    strange = row["direction"] == "in" and not row["backfill"]
    if written is None or (strange and not received - _JOURNEY <= written <= received):
        written = received
    at: datetime = written
    return at


def _told(facts: Iterable[RowMapping], key: str | None) -> list[Told]:
    mine = (row for row in facts if row["idempotency_key"] == key)
    return sorted(
        (Told(row["at"], row["what"], row["words"]) for row in mine), key=lambda each: each.at
    )


def _claim(row: RowMapping) -> Claim:
    return Claim(
        mail=row["mail"],
        sender=written(as_address(row["author"])),
        subject=row["subject"],
        at_ticket=row["at_ticket"],
        perhaps_of=row["ticket"],
        why=claim(row["claim"], row["evidence"]),
    )


def written(address: Address | None) -> str:
    """An address for a person: `Kim <kim@customer.example>`."""
    if address is None:
        return ""
    return f"{address.name} <{address.address}>" if address.name else address.address


async def listed(
    tx: AsyncConnection, *, queue_id: int | None, state: str | None, limit: int
) -> Sequence[RowMapping]:
    """The newest tickets, of one ticket queue and in one state where they are given."""
    wanted = select(ticket, queue.c.name.label("queue_name")).join(queue)
    if queue_id is not None:
        wanted = wanted.where(ticket.c.ticket_queue == queue_id)
    if state is not None:
        wanted = wanted.where(ticket.c.state == state)
    return await _rows(tx, wanted.order_by(ticket.c.number.desc()).limit(limit))
