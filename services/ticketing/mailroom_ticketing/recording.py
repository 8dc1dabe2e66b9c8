"""Stores what a batch of mails was decided to be.

Invariant: the unique keys of `mail` and `message_id` let one of two transactions through that saw
the same conversation, even where no lock was held; the other one reads again (DecidedElsewhere).
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, bindparam, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import Address
from mailroom.messaging.failures import RetryLater
from mailroom_ticketing.known import Known, Ticket
from mailroom_ticketing.matching import Suggestion
from mailroom_ticketing.store import mail, message_id, participant, placement, suggestion, ticket
from mailroom_ticketing.tickets import Decision, Placement


class DecidedElsewhere(RetryLater):
    """Another transaction decided on the same conversation meanwhile: read again, decide again."""

    def __init__(self, mails: Collection[UUID]) -> None:
        self.mails = tuple(sorted(mails))
        named = ", ".join(map(str, self.mails))
        super().__init__(f"another replica decided on the conversation of {named}", timedelta(0))


def _unless_in_a_ticket(table: Table, key: str) -> Insert:
    """Store rows, also in the place of those that found no ticket."""
    statement = insert(table)
    changing = {each.name: statement.excluded[each.name] for each in table.c if each.name != key}
    return statement.on_conflict_do_update(
        index_elements=[key], set_=changing, where=table.c.ticket.is_(None)
    )


# Built once: docs/decisions/statements-are-built-once.md.
_INSERT_TICKETS = insert(ticket).returning(ticket.c.number, sort_by_parameter_order=True)
_UPDATE_TICKETS = update(ticket).where(ticket.c.number == bindparam("wanted"))
_STORE_MAILS = _unless_in_a_ticket(mail, "mail").returning(mail.c.mail)
_INSERT_MESSAGE_IDS = (
    insert(message_id).on_conflict_do_nothing().returning(message_id.c.key, message_id.c.position)
)
_INSERT_PARTICIPANTS = insert(participant).on_conflict_do_nothing()
# One that was noted comes again when it is no spam after all, or was sent to ourselves too.
_STORE_PLACEMENTS = _unless_in_a_ticket(placement, "placement")


async def record(
    tx: AsyncConnection, known: Known, decisions: Sequence[Decision], now: datetime
) -> None:
    """Store what was decided, and give new tickets their numbers. Raises DecidedElsewhere."""
    await _store_tickets(tx, known)
    await _store_mails(tx, decisions, now)
    await _store_message_ids(tx, known)
    await _store_participants(tx, known)
    await _store_suggestions(tx, [each for one in decisions for each in one.suggestions], now)
    await _store_placements(tx, decisions, now)


async def _store_tickets(tx: AsyncConnection, known: Known) -> None:
    if known.new_tickets:
        rows = [_ticket_row(each) for each in known.new_tickets]
        numbered = await tx.execute(_INSERT_TICKETS, rows)
        for each, number in zip(known.new_tickets, numbered.scalars(), strict=True):
            each.number = number
    changed = [each for number, each in sorted(known.tickets.items()) if each.changed]
    if changed:
        rows = [{**_ticket_row(each), "wanted": each.number} for each in changed]
        await tx.execute(_UPDATE_TICKETS, rows)


def _ticket_row(each: Ticket) -> dict[str, Any]:
    return {
        "ticket_queue": each.queue.id,
        "state": each.state,
        "priority": each.priority,
        "customer": _address_row(each.customer),
        "subject": each.subject,
        "created_at": each.created_at,
        "updated_at": each.updated_at,
        "last_incoming_at": each.last_incoming_at,
    }


def _address_row(address: Address | None) -> dict[str, str] | None:
    return address.model_dump() if address else None


async def _store_mails(tx: AsyncConnection, decisions: Sequence[Decision], now: datetime) -> None:
    # A mail may be noted and, later in the batch, joined: the last word counts.
    kept = [one for one in decisions if one.outcome in ("opened", "joined", "noted")]
    rows = {one.mail.id: _mail_row(one, now) for one in kept if one.rule != "spam"}
    if not rows:
        return
    written = await tx.execute(_STORE_MAILS, [rows[each] for each in sorted(rows)])
    if lost := rows.keys() - set(written.scalars()):
        raise DecidedElsewhere(lost)


def _mail_row(decision: Decision, now: datetime) -> dict[str, Any]:
    each = decision.mail
    return {
        "mail": each.id,
        "ticket": decision.ticket.number if decision.ticket else None,
        "direction": each.direction,
        "message_id": each.message_id,
        "references": list(each.references),
        "senders": list(each.senders),
        "recipients": list(each.recipients),
        "author": _address_row(each.author),
        "customer": _address_row(each.customer),
        "subject": each.subject,
        "date": each.date,
        "auto": each.auto,
        "backfill": each.backfill,
        "raw_sha256": each.raw.sha256,
        "raw_size": each.raw.size,
        "received_at": each.received_at,
        "correlation_id": each.correlation_id,
        "rule": decision.rule,
        "evidence": decision.evidence,
        "decided_at": now,
    }


async def _store_message_ids(tx: AsyncConnection, known: Known) -> None:
    if not known.new_ids:
        return
    rows = [
        vars(each) for each in sorted(known.new_ids, key=lambda each: (each.key, each.position))
    ]
    written = await tx.execute(_INSERT_MESSAGE_IDS, rows)
    stored = {(row.key, row.position) for row in written}
    if lost := {each.mail for each in known.new_ids if (each.key, each.position) not in stored}:
        raise DecidedElsewhere(lost)


async def _store_participants(tx: AsyncConnection, known: Known) -> None:
    tickets = [*known.tickets.values(), *known.new_tickets]
    rows = [
        {"ticket": each.number, "address": address}
        for each in tickets
        for address in sorted(each.newcomers)
    ]
    if rows:
        await tx.execute(_INSERT_PARTICIPANTS, rows)


async def _store_suggestions(
    tx: AsyncConnection, suggestions: Sequence[Suggestion], now: datetime
) -> None:
    rows = [
        {
            "mail": each.mail,
            "ticket": each.ticket.number,
            "claim": each.claim,
            "evidence": each.evidence,
            "suggested_at": now,
        }
        for each in suggestions
    ]
    if rows:
        await tx.execute(insert(suggestion).on_conflict_do_nothing(), rows)


async def _store_placements(
    tx: AsyncConnection, decisions: Sequence[Decision], now: datetime
) -> None:
    rows: dict[UUID, dict[str, Any]] = {}
    for each in decisions:
        if each.placement and rows.get(each.placement.id, {}).get("ticket") is None:
            rows[each.placement.id] = _placement_row(each, each.placement, now)
    if not rows:
        return
    await tx.execute(_STORE_PLACEMENTS, [rows[each] for each in sorted(rows)])


def _placement_row(decision: Decision, placed: Placement, now: datetime) -> dict[str, Any]:
    return {
        "placement": placed.id,
        "mail": decision.mail.id,
        "mailbox": placed.mailbox,
        "account": placed.account,
        "outcome": decision.outcome,
        "rule": decision.rule,
        "evidence": decision.evidence,
        "ticket": decision.ticket.number if decision.ticket else None,
        "withheld": decision.withheld,
        "correlation_id": decision.mail.correlation_id,
        "received_at": decision.mail.received_at,
        "decided_at": now,
    }
