"""Turns the events that come into mails: routed ones, and ours that left.

Invariant: an event of another publisher, or about another module's record, never gets past here:
nobody puts a mail into a ticket by having it sent in the ticket's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from mailroom import mime, objects
from mailroom.contracts import (
    Address,
    MailFailed,
    MailFiled,
    MailRejected,
    MailRouted,
    MailSent,
    RecordRef,
)
from mailroom.messaging.envelope import Received
from mailroom.messaging.failures import ParkEvent
from mailroom_ticketing.composing import RECORD
from mailroom_ticketing.known import Known
from mailroom_ticketing.mails import TicketMail, from_routed, from_sent
from mailroom_ticketing.tags import Ring
from mailroom_ticketing.tickets import Decision, Placement, sent

PUBLISHER = "ticketing"

Outcome = TypeVar("Outcome", MailSent, MailFiled, MailFailed, MailRejected)


async def routed(
    events: Sequence[Received[MailRouted]], store: objects.ObjectStore
) -> Sequence[tuple[TicketMail, Placement]]:
    """Mails with where they lie, in order; of a report, the mail that it concerns is read."""
    return [
        (
            from_routed(each, await _report(each.event, store)),
            Placement(each.event.placement, each.event.mailbox, each.event.account),
        )
        for each in events
    ]


async def _report(event: MailRouted, store: objects.ObjectStore) -> mime.Report | None:
    if event.auto != "report" or event.parsed is None:
        return None
    return mime.from_json(await objects.get(store, event.parsed.sha256)).report


def of_tickets(events: Sequence[Received[Outcome]]) -> Sequence[Received[Outcome]]:
    """Those that tell of a mail which ticketing asked for."""
    return [
        each
        for each in events
        if each.event.publisher == PUBLISHER
        and each.event.idempotency_key is not None
        and _is_ticket(getattr(each.event, "record", None))
    ]


def _is_ticket(record: RecordRef | None) -> bool:
    return record is None or record.kind == RECORD


@dataclass(frozen=True)
class Departure:
    """A mail of ours that left, and the ticket that it was sent for."""

    mail: TicketMail
    number: int
    evidence: dict[str, str]


def departures(
    events: Sequence[Received[MailSent]],
    senders: Mapping[UUID, Address],
    asked_at: Mapping[str, datetime],
) -> Sequence[Departure]:
    """Mails of ours that left. `senders`: account → address; `asked_at`: idempotency key → when.

    Raises ParkEvent where the record is no ticket's number.
    """
    return [
        Departure(
            from_sent(each, senders.get(each.event.account), asked_at.get(key)),
            _number(each.event.record),
            {"idempotency_key": key},
        )
        for each in events
        if (key := each.event.idempotency_key) is not None
    ]


def _number(record: RecordRef | None) -> int:
    digits = record.id if record else ""
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 15):
        raise ParkEvent(f"record.id {digits!r}: the number of a ticket is wanted")
    return int(digits)


def depart(known: Known, departure: Departure, ring: Ring, now: datetime) -> Sequence[Decision]:
    """Decide on a mail of ours that left. Raises ParkEvent for a ticket that is not there."""
    ticket = known.tickets.get(departure.number)
    if ticket is None:
        raise ParkEvent(
            f"record.id {departure.number}: there is no such ticket; was a database restored?"
        )
    return sent(known, departure.mail, ticket, departure.evidence, ring, now)
