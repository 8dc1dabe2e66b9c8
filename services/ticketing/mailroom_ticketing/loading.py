"""Loads all that a batch of mails is decided on, under locks.

Invariant: two transactions never decide on the same Message-ID, mail or customer at once. Locks are
taken before anything is read and in an order that all share: first those of `mails.locks`, then the
tickets by number. See docs/decisions/one-conversation-two-replicas.md.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    RowMapping,
    Select,
    Text,
    Uuid,
    bindparam,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import directory
from mailroom.arrays import rows_of
from mailroom.contracts import ObjectRef
from mailroom_ticketing.acknowledging import WINDOW
from mailroom_ticketing.known import Holder, Known, Ticket
from mailroom_ticketing.mails import TicketMail, key_of, locks
from mailroom_ticketing.store import (
    as_address,
    as_ticket_queue,
    feeds,
    mail,
    message_id,
    participant,
    request,
    ticket,
    ticket_queue,
)

HOLDERS = 100
"""Mails looked at for one Message-ID, the oldest first: a scanner gives all its mails the same."""


# Built once: docs/decisions/statements-are-built-once.md.
_LOCKS, _MAILS = rows_of("locks", BigInteger), rows_of("mails", Uuid)
_KEYS, _PEOPLE = rows_of("keys", LargeBinary), rows_of("people", Text)
_NUMBERS = rows_of("numbers", BigInteger)
_LOCK = select(func.pg_advisory_xact_lock(_LOCKS.c.value)).select_from(_LOCKS)
_PLACED = (
    select(mail.c.mail, mail.c.ticket)
    .join(_MAILS, _MAILS.c.value == mail.c.mail)
    .where(mail.c.ticket.is_not(None))
)
_TOPS = (
    select(message_id.c.key, (func.max(message_id.c.position) + 1).label("top"))
    .join(_KEYS, _KEYS.c.value == message_id.c.key)
    .group_by(message_id.c.key)
)


def _holding() -> Select[Any]:
    """Of mails that merely reference a Message-ID only those of tickets in which one of `people`
    takes part: thousands may answer one newsletter."""
    takes_part = exists(
        select(participant.c.ticket)
        .join(_PEOPLE, _PEOPLE.c.value == participant.c.address)
        .where(participant.c.ticket == mail.c.ticket)
    )
    order = (message_id.c.own.desc(), message_id.c.position)
    nth = func.row_number().over(partition_by=message_id.c.key, order_by=order).label("nth")
    ranked = (
        select(message_id.c.key, message_id.c.own, message_id.c.position, mail, nth)
        .join(_KEYS, _KEYS.c.value == message_id.c.key)
        .join(mail, mail.c.mail == message_id.c.mail)
        .where(or_(message_id.c.own, mail.c.ticket.is_(None), takes_part))
        .subquery()
    )
    return select(ranked).where(ranked.c.nth <= HOLDERS).order_by(ranked.c.key, ranked.c.position)


_HOLDERS = _holding()
_TICKETS = (
    select(ticket, ticket_queue)
    .join(_NUMBERS, _NUMBERS.c.value == ticket.c.number)
    .join(ticket_queue)
    .order_by(ticket.c.number)
    .with_for_update(of=ticket, key_share=True)
)
_TAKE_PART = select(participant).join(_NUMBERS, _NUMBERS.c.value == participant.c.ticket)
_ANSWERED = (
    select(request.c.ticket_queue, request.c.correspondent, func.max(request.c.requested_at))
    .join(_PEOPLE, _PEOPLE.c.value == request.c.correspondent)
    .where(request.c.kind == "acknowledgement", request.c.requested_at > bindparam("since"))
    .group_by(request.c.ticket_queue, request.c.correspondent)
)


async def load(
    tx: AsyncConnection, mails: Sequence[TicketMail], numbers: Collection[int], now: datetime
) -> Known:
    """Lock and load all that concerns `mails`, and the tickets `numbers` that they claim.

    Waits for any transaction that decides on one of the same Message-IDs, mails or customers.
    """
    # Statement by statement: only what is read after the lock was got sees what the other wrote.
    await tx.execute(_LOCK, {"locks": locks(mails)})
    ours = (await directory.snapshot(tx)).addresses
    known = Known(feeds=await feeds(tx), ours=ours)
    at = await _placed(tx, [each.id for each in mails])
    at |= await _load_holders(tx, known, mails)
    known.tickets = await tickets(tx, {*at.values(), *numbers})
    known.at = {each: known.tickets[number] for each, number in at.items()}
    known.answered = await _answered(tx, mails, now - WINDOW)
    return known


async def _placed(tx: AsyncConnection, mails: Iterable[UUID]) -> dict[UUID, int]:
    rows = await tx.execute(_PLACED, {"mails": list(mails)})
    return {row.mail: row.ticket for row in rows}


async def _load_holders(
    tx: AsyncConnection, known: Known, mails: Sequence[TicketMail]
) -> dict[UUID, int]:
    """Fill in who holds the Message-IDs of `mails`; returns the tickets of those who have one."""
    keys = {key_of(each) for one in mails for each in (*one.own_ids, *one.references)}
    people = {each for one in mails for each in (*one.senders, *one.recipients)}
    for row in await tx.execute(_TOPS, {"keys": list(keys)}):
        known.positions[row.key] = row.top
    at: dict[UUID, int] = {}
    found = await tx.execute(_HOLDERS, {"keys": list(keys), "people": list(people)})
    for row in found.mappings():
        known.holders[row["key"]].append(Holder(row["mail"], row["own"], row["direction"]))
        if row["ticket"] is None:
            known.loose[row["mail"]] = _as_mail(row)
        else:
            at[row["mail"]] = row["ticket"]
    return at


def _as_mail(row: RowMapping) -> TicketMail:
    """A mail that found no ticket, as it was decided on."""
    return TicketMail(
        id=row["mail"],
        direction=row["direction"],
        message_id=row["message_id"],
        references=tuple(row["references"]),
        senders=tuple(row["senders"]),
        recipients=tuple(row["recipients"]),
        author=as_address(row["author"]),
        customer=as_address(row["customer"]),
        subject=row["subject"],
        tagged=row["subject"],
        date=row["date"],
        auto=row["auto"],
        spam=False,
        backfill=row["backfill"],
        null_path=False,
        raw=ObjectRef(sha256=row["raw_sha256"], size=row["raw_size"]),
        received_at=row["received_at"],
        correlation_id=row["correlation_id"],
    )


async def tickets(tx: AsyncConnection, numbers: Collection[int]) -> dict[int, Ticket]:
    """Lock and load the tickets of these numbers; those that are not there are missing."""
    if not numbers:
        return {}
    rows = await tx.execute(_TICKETS, {"numbers": sorted(numbers)})
    found = {row.number: _as_ticket(row) for row in rows}
    for row in await tx.execute(_TAKE_PART, {"numbers": sorted(found)}):
        found[row.ticket].participants.add(row.address)
    return found


def _as_ticket(row: Any) -> Ticket:
    return Ticket(
        queue=as_ticket_queue(row),
        state=row.state,
        customer=as_address(row.customer),
        subject=row.subject,
        created_at=row.created_at,
        updated_at=row.updated_at,
        number=row.number,
        priority=row.priority,
        last_incoming_at=row.last_incoming_at,
    )


async def _answered(
    tx: AsyncConnection, mails: Iterable[TicketMail], since: datetime
) -> dict[tuple[int, str], datetime]:
    people = {one.correspondent for one in mails}
    rows = await tx.execute(_ANSWERED, {"people": list(people), "since": since})
    return {(queue, correspondent): last for queue, correspondent, last in rows}
