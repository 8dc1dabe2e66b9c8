"""A service desk to try the rules on: its key ring, its ticket queue, its clock, and mails."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from mailroom.contracts import Address, ObjectRef
from mailroom_ticketing.known import Known, Ticket, TicketQueue
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.tags import Ring
from mailroom_ticketing.tickets import Decision, Placement, decide

RING = Ring("acme", (bytes(range(32)),))
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SERVICE_MAILBOX, PRIVATE_DESK = uuid5(NAMESPACE_OID, "service"), uuid5(NAMESPACE_OID, "other")
ACCOUNT = uuid5(NAMESPACE_OID, "account")
SERVICE = TicketQueue(1, "Service", ACCOUNT, "en", acknowledge=True)
SALES_MAILBOX = uuid5(NAMESPACE_OID, "sales")
SALES = TicketQueue(2, "Sales", ACCOUNT, "de", acknowledge=True)

CUSTOMER, COLLEAGUE, STRANGER = "kim@customer.example", "lee@customer.example", "eve@evil.example"
US = "service@acme.example"


def desk() -> Known:
    """An empty desk: one mailbox feeds Service, one Sales."""
    feeds = {SERVICE_MAILBOX: SERVICE, SALES_MAILBOX: SALES}
    return Known(feeds=feeds, ours=frozenset({US}))


def mail(sender: str = CUSTOMER, /, **changed: Any) -> TicketMail:
    """An ordinary mail to the desk, at noon. `answers` is the mail that it answers."""
    answered: TicketMail | None = changed.pop("answers", None)
    if answered is not None:
        changed.setdefault("references", (*answered.references, answered.message_id or ""))
        changed.setdefault("subject", f"Re: {answered.subject}")
    to = tuple(changed.pop("to", (US,)))
    subject = changed.setdefault("subject", "Printer on fire")
    author = Address(name="", address=sender)
    made = TicketMail(
        id=uuid4(),
        direction="in",
        message_id=f"{uuid4()}@mail.example",
        references=(),
        senders=(sender,),
        recipients=to,
        author=author,
        customer=author,
        subject="",
        tagged=subject,
        date=NOON,
        auto="none",
        spam=False,
        backfill=False,
        null_path=False,
        raw=ObjectRef(sha256="0" * 64, size=1),
        received_at=NOON,
        correlation_id="c",
    )
    return replace(made, **changed)


def answer(to: str = CUSTOMER, /, **changed: Any) -> TicketMail:
    """A colleague's mail, seen in the Sent folder."""
    return mail(US, **{"direction": "out", "to": (to,), **changed})


def bring(
    known: Known, brought: TicketMail, mailbox: UUID = SERVICE_MAILBOX, at: datetime = NOON
) -> Decision:
    """Decide on a mail alone, and number its ticket as the store does."""
    return bring_all(known, brought, mailbox=mailbox, at=at)[0]


def bring_all(
    known: Known, *brought: TicketMail, mailbox: UUID = SERVICE_MAILBOX, at: datetime = NOON
) -> list[Decision]:
    """Decide on mails one after the other; tickets are numbered after the last, as in a batch."""
    decisions = [
        decision
        for each in brought
        for decision in decide(known, each, Placement(uuid4(), mailbox, ACCOUNT), RING, at)
    ]
    for ticket in known.new_tickets:
        ticket.number = max(known.tickets, default=0) + 1
        known.tickets[ticket.number] = ticket
    known.new_tickets.clear()
    return decisions


def ticket_of(known: Known, sought: TicketMail) -> Ticket | None:
    """The ticket that a mail is at."""
    return known.at.get(sought.id)


def later(**by: float) -> datetime:
    """Some time after noon."""
    return NOON + timedelta(**by)
