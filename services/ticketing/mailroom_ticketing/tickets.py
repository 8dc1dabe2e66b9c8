"""What becomes of a mail: it opens a ticket, joins one, or is noted and does neither.

Invariant: a mail is at one ticket at most, for good, and every decision says by which rule and on
what evidence. Only mail that somebody waits for an answer to opens a ticket.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from mailroom_ticketing.acknowledging import Withheld, note_answer, withheld
from mailroom_ticketing.known import Known, State, Ticket, TicketQueue, learn
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.matching import Match, Suggestion, answered_late, match, suggest
from mailroom_ticketing.tags import Ring, without

SUBJECT = 1000
"""Characters of a mail's subject that a ticket keeps."""

Outcome = Literal["opened", "joined", "placed", "noted", "passed over"]


@dataclass(frozen=True)
class Placement:
    """Where a copy of the mail lies, and which account brought it."""

    id: UUID
    mailbox: UUID
    account: UUID


@dataclass(frozen=True)
class Decision:
    """What became of a mail, and why."""

    mail: TicketMail
    outcome: Outcome
    rule: str
    evidence: dict[str, str]
    ticket: Ticket | None = None
    placement: Placement | None = None
    """None: not this placement decided, but what another mail of its conversation did."""
    withheld: Withheld | None = None
    """Why a ticket that was opened is not acknowledged; None when it is."""
    suggestions: Sequence[Suggestion] = field(default=())


def decide(
    known: Known, mail: TicketMail, placement: Placement, ring: Ring, now: datetime
) -> list[Decision]:
    """Decide on one placement of a mail, and on those that join because of it. Changes `known`."""
    queue = known.feeds.get(placement.mailbox)
    if queue is None:
        return [Decision(mail, "passed over", "feeds no ticket queue", {}, placement=placement)]
    if mail.id in known.at:
        return [Decision(mail, "placed", "same mail", {}, known.at[mail.id], placement)]
    if found := match(known, mail, ring):
        return [_join(known, mail, found, now, placement), *_reunite(known, ring, now)]
    if reason := opens_none(mail):
        return [_note(known, mail, reason, placement)]
    return [_open(known, mail, queue, placement, ring, now), *_reunite(known, ring, now)]


def sent(
    known: Known,
    mail: TicketMail,
    ticket: Ticket,
    evidence: dict[str, str],
    ring: Ring,
    now: datetime,
) -> list[Decision]:
    """A mail that we sent for `ticket` left. Its copy in Sent may have come first."""
    if mail.id in known.at:
        learn(known, mail)
        return []
    joined = _join(known, mail, Match(ticket, "sent", evidence), now, None)
    return [joined, *_reunite(known, ring, now)]


def opens_none(mail: TicketMail) -> str | None:
    """Why a mail that matched no ticket opens none; None when it does."""
    if mail.direction == "out":
        return "outgoing"
    if mail.spam:
        return "spam"
    return "backfill" if mail.backfill else None


def _open(
    known: Known,
    mail: TicketMail,
    queue: TicketQueue,
    placement: Placement,
    ring: Ring,
    now: datetime,
) -> Decision:
    claims = suggest(known, mail, ring)
    reason = withheld(known, mail, queue, now)
    if reason is None:
        note_answer(known, mail, queue, now)
    ticket = Ticket(
        queue=queue,
        state="new",
        customer=mail.customer,
        subject=without(mail.subject)[:SUBJECT],
        created_at=now,
        updated_at=now,
    )
    known.new_tickets.append(ticket)
    learn(known, mail)
    late = _take_in(known, mail, ticket)
    return Decision(
        mail,
        "opened",
        "opened",
        {},
        ticket,
        placement,
        withheld=reason,
        suggestions=[*claims, *late],
    )


def _join(
    known: Known, mail: TicketMail, found: Match, now: datetime, placement: Placement | None
) -> Decision:
    learn(known, mail)
    return _attach(known, mail, found, now, placement)


def _attach(
    known: Known, mail: TicketMail, found: Match, now: datetime, placement: Placement | None
) -> Decision:
    ticket = found.ticket
    late = _take_in(known, mail, ticket)
    if not mail.backfill:
        ticket.state = state_after(ticket, mail)
        ticket.updated_at = now
    ticket.changed = True
    return Decision(mail, "joined", found.rule, found.evidence, ticket, placement, suggestions=late)


def _note(known: Known, mail: TicketMail, reason: str, placement: Placement) -> Decision:
    # Spam is not remembered: what it references must not lead anybody anywhere.
    if reason != "spam":
        known.loose[mail.id] = mail
        learn(known, mail)
    return Decision(mail, "noted", reason, {}, placement=placement)


def _take_in(known: Known, mail: TicketMail, ticket: Ticket) -> Sequence[Suggestion]:
    known.loose.pop(mail.id, None)
    known.at[mail.id] = ticket
    if mail.auto != "report":
        newcomers = _people(mail) - ticket.participants
        ticket.participants |= newcomers
        ticket.newcomers |= newcomers
    if mail.direction == "in" and mail.auto == "none":
        wrote = _written_at(mail)
        ticket.last_incoming_at = max(ticket.last_incoming_at or wrote, wrote)
    return answered_late(known, mail, ticket)


def _people(mail: TicketMail) -> set[str]:
    if mail.direction == "out":
        return set(mail.recipients)
    return {*mail.senders, *mail.recipients, *mail.replies_to}


def state_after(ticket: Ticket, mail: TicketMail) -> State:
    """The state of a ticket that a mail has joined.

    Mail from outside opens it again, closed or not; an answer of ours to the newest of them makes
    it wait, unless it is closed. What machines write changes nothing.
    """
    if mail.auto != "none":
        return ticket.state
    if mail.direction == "in":
        return "new" if ticket.state == "new" else "open"
    newest = ticket.last_incoming_at
    answers = newest is None or _written_at(mail) >= newest
    return "waiting" if answers and ticket.state in ("new", "open") else ticket.state


def _written_at(mail: TicketMail) -> datetime:
    # A Date in the future would make every answer of ours look older than the question.
    return min(mail.date, mail.received_at) if mail.date else mail.received_at


def _reunite(known: Known, ring: Ring, now: datetime) -> Iterator[Decision]:
    """Mails that came before their conversation had a ticket, until none joins any more."""
    joined = True
    while joined:
        joined = False
        for mail in list(known.loose.values()):
            if found := match(known, mail, ring):
                joined = True
                # Its Message-IDs were stored when it was noted.
                yield _attach(known, mail, found, now, None)
