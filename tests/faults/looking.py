"""What there is in a firm: what still moves, by its databases and folders, and what people see.

Invariant: nothing moves means that every mail was fetched, every event published and handled by all
who subscribe to it, or parked, and every mail of ours sent and filed. What is wrong then stays
wrong.
"""

import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any

from pydantic_core import Url
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CompoundSelect,
    Select,
    Table,
    Text,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.selectable import TableValuedAlias

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from mailroom import database
from mailroom.directory.views import ACCOUNTS
from mailroom.messaging.topology import EXCHANGE, binding_keys, queue_name
from mailroom_fetcher.store import arrivals, folders
from mailroom_router.store import arrival
from mailroom_router.store import messaging as router
from mailroom_sender.tables import copies, leases, recipients, requests
from mailroom_ticketing.store import mail, outcome, request, ticket
from tests.faults.firm import PATIENCE, Firm
from tests.faults.model import Answer, Seen
from tests.installation import installed_services
from tests.waiting import until

STANDS_STILL = 5.0
"""Seconds without any change, after which what is under way waits for something."""
DOUBT = ("perhaps a second time", "nobody knows")
"""How a ticket says that one cannot know what became of a mail of ours."""


@dataclass(frozen=True)
class Moving:
    """Something that is not done yet; with `due`, it waits for that time."""

    what: str
    due: datetime | None = None


async def until_nothing_moves(firm: Firm, mails: Sequence[str], within: float = PATIENCE) -> None:
    """Wait until all is done that these mails cause; due times are made to come.

    A mail is named by its Message-ID, or by its subject where it has none.
    """

    queries = (
        _at_no_ticket(mails),
        _unpublished(),
        unhandled(),
        _unrouted(),
        _unsent(),
        _unfiled(),
    )

    pictures: dict[frozenset[Moving], float] = {}
    """What was there at a look, and when it was first seen so."""

    async def rests() -> bool:
        async with engine.connect() as tx:
            moving = {Moving(*row) for query in queries for row in await tx.execute(query)}
        now = firm.now
        waits = {one for one in moving if one.due and one.due > now}
        if moving != waits:
            # It may be one that waits which the others wait for, if nothing else gets on.
            since = pictures.setdefault(frozenset(moving), time.monotonic())
            assert waits, moving
            assert time.monotonic() - since > STANDS_STILL, moving - waits
        if waits:
            firm.pass_time(max(one.due for one in waits if one.due) - now)
        return not moving

    async def fetched() -> bool:
        async with engine.connect() as tx:
            ledger = await _ledger(tx)
        lies = {
            (person.address, name): mail_programs.uids(firm.it.servers, person, name)
            for person in (firm.service, firm.sales)
            for name in ("INBOX", "Sent")
        }
        lacks = {place: set(uids) - ledger.get(place, set()) for place, uids in lies.items()}
        assert not any(lacks.values()), lacks
        return await rests()

    async with _connected(firm) as engine:
        await until(rests, within, every=0.2)
        # Folders other than INBOX are looked at every five seconds, or now.
        await firm.asks("account", "fetch", firm.service.name)
        await until(fetched, within, every=0.2)


@asynccontextmanager
async def _connected(firm: Firm) -> AsyncIterator[AsyncEngine]:
    # Mail programs are asked meanwhile, which takes its time on a busy machine.
    engine = database.engine(
        Url(firm.database.superuser_url), "looking", connections=1, idle_within=PATIENCE
    )
    # A look is one snapshot: else something could go from here to there unseen meanwhile.
    yield engine.execution_options(isolation_level="REPEATABLE READ")
    await engine.dispose()


def _at_no_ticket(mails: Sequence[str]) -> Select[Any]:
    wanted = func.unnest(literal(list(mails), ARRAY(Text))).column_valued("id")
    known = func.coalesce(mail.c.message_id, mail.c.subject)
    found = select(known).where(mail.c.ticket.is_not(None))
    return select(literal("at no ticket: ") + wanted).where(wanted.not_in(found))


def _unpublished() -> CompoundSelect[Any]:
    outboxes = {service.name: service.messaging.outbox for service in installed_services()}
    return union_all(
        *(
            select(literal(f"not published by {name}: ") + outbox.c.type, outbox.c.due)
            for name, outbox in outboxes.items()
        )
    )


def unhandled() -> Select[Any]:
    """Each published event that a queue gets, and whose service has not handled it."""
    services, bindings = installed_services(), _bindings()
    sent = union_all(
        *(
            select(literal(service.name).label("publisher"), *_columns(service, "outbox_sent"))
            for service in services
        )
    ).subquery("sent")
    handled = union_all(
        *(
            select(table.c.queue, table.c.publisher, table.c.event_id)
            for service in services
            for table in (service.messaging.consumed, service.messaging.parked)
        )
    ).subquery()
    return (
        select(literal("not handled: ") + bindings.c.queue)
        .join_from(sent, bindings, bindings.c.key == sent.c.routing_key)
        .outerjoin(
            handled,
            (handled.c.queue == bindings.c.queue)
            & (handled.c.publisher == sent.c.publisher)
            & (handled.c.event_id == sent.c.event_id),
        )
        .where(sent.c.exchange == EXCHANGE, handled.c.event_id.is_(None))
    )


def _unrouted() -> Select[Any]:
    """Also the second copy of a mail, which nobody would miss at its ticket."""
    fetched = select(literal("not routed: UID ").concat(arrivals.c.uid))
    parked = select(router.parked.c.correlation_id)
    return fetched.outerjoin(arrival, arrival.c.arrival == arrivals.c.id).where(
        arrivals.c.state == "published",
        arrival.c.arrival.is_(None),
        cast(arrivals.c.id, Text).not_in(parked),
    )


def _columns(service: Any, table: str) -> list[Any]:
    columns = getattr(service.messaging, table).c
    return [columns.exchange, columns.routing_key, columns.event_id]


def _bindings() -> TableValuedAlias:
    """Which queue gets the events of which routing key."""
    bound = [
        (queue_name(service.name, subscription.contract), key)
        for service in installed_services()
        for subscription in service.subscriptions
        for key in binding_keys(subscription)
    ]
    queues, keys = (literal(list(each), ARRAY(Text)) for each in zip(*bound, strict=True))
    return func.unnest(queues, keys).table_valued("queue", "key", name="bound").render_derived()


def _unsent() -> Select[str, datetime]:
    waits = select(literal("not sent: ") + requests.c.subject, _due(requests))
    return _resting(waits.select_from(requests), requests, "send").where(
        requests.c.ended_at.is_(None), requests.c.state != "unknown"
    )


def _unfiled() -> Select[str, datetime]:
    waits = select(literal("not filed: ") + requests.c.subject, _due(copies))
    return _resting(waits.join_from(copies, requests), copies, "file").where(
        copies.c.state == "due"
    )


def _due(table: Table) -> ColumnElement[datetime]:
    """When it is tried again: not before the account's server is spoken to again."""
    return func.greatest(table.c.due, leases.c.rests_until)


def _resting(waits: Select[str, datetime], table: Table, work: str) -> Select[str, datetime]:
    rests = (leases.c.account == table.c.account) & (leases.c.work == work)
    return waits.outerjoin(leases, rests)


async def _ledger(tx: AsyncConnection) -> dict[tuple[str, str], set[int]]:
    """The UIDs that were fetched under the last known UIDVALIDITY, by address and folder.

    Among them are those of mails that have been removed from the server.
    """
    uids = func.array_agg(arrivals.c.uid.distinct())
    rows = select(ACCOUNTS.c.address, folders.c.name, uids).group_by(
        ACCOUNTS.c.address, folders.c.name
    )
    numbered = and_(
        folders.c.id == arrivals.c.folder, folders.c.uidvalidity == arrivals.c.uidvalidity
    )
    rows = rows.join_from(arrivals, folders, numbered)
    rows = rows.join(ACCOUNTS, ACCOUNTS.c.id == folders.c.account)
    return {(address, name): set(uids) for address, name, uids in await tx.execute(rows)}


async def ticket_numbers(firm: Firm) -> set[int]:
    """All tickets that there are."""
    async with _connected(firm) as engine, engine.connect() as tx:
        return set(await tx.scalars(select(ticket.c.number)))


async def until_delivered(firm: Firm, customers: Sequence[Person]) -> None:
    """What a mail server took for these customers lies in their inboxes: it may need a moment."""
    async with _connected(firm) as engine, engine.connect() as tx:
        rows = await tx.execute(
            select(recipients.c.address, requests.c.message_id)
            .join(requests, requests.c.mail == recipients.c.mail)
            .where(recipients.c.state == "accepted")
            .where(recipients.c.address.in_([person.address for person in customers]))
        )
        taken = {(address, message_id) for address, message_id in rows}

    def all_lie_there() -> bool:
        there = {(one.address, id_of(each)) for one in customers for each in firm.headers(one)}
        assert not taken - there, taken - there
        return True

    await until(all_lie_there, PATIENCE, every=0.5)


async def seen(firm: Firm, tickets: set[int], customers: Sequence[Person]) -> Seen:
    """What these tickets, customers and our Sent folders show."""
    inboxes = {
        person.address: [
            Answer(id_of(each), _answered(each), _taken_as(each)) for each in firm.headers(person)
        ]
        for person in customers
    }
    ours = (firm.service, firm.sales)
    sent = [id_of(each) for person in ours for each in firm.headers(person, "Sent")]
    # Mail programs may take their time: PostgreSQL ends who idles in a transaction.
    async with _connected(firm) as engine, engine.connect() as tx:
        dialogues: dict[int, list[str]] = {number: [] for number in tickets}
        for number, known_as in await tx.execute(_dialogues(tickets)):
            dialogues[number].append(known_as)
        return Seen(
            tickets=dialogues,
            inboxes=inboxes,
            sent=sent,
            doubtful=dict((await tx.execute(_doubts(tickets))).all()),
            parked=list(await tx.scalars(_parked())),
        )


def _dialogues(tickets: Iterable[int]) -> Select[Any]:
    """The customers' mails, by ticket."""
    ours = select(outcome.c.mail).where(outcome.c.mail.is_not(None))
    return select(mail.c.ticket, func.coalesce(mail.c.message_id, mail.c.subject)).where(
        mail.c.ticket.in_(tickets), mail.c.mail.not_in(ours)
    )


def _doubts(tickets: Iterable[int]) -> Select[Any]:
    """The mails of ours of which these tickets tell it, and how often it happened to each."""
    told = (
        select(outcome.c.mail)
        .join(request, request.c.idempotency_key == outcome.c.idempotency_key)
        .where(request.c.ticket.in_(tickets))
        .where(or_(*(outcome.c.words.contains(doubt) for doubt in DOUBT)))
    )
    return select(requests.c.message_id, requests.c.unknowns).where(requests.c.mail.in_(told))


def _parked() -> CompoundSelect[Any]:
    """Why something is parked, mails that a server did not deliver among them."""
    mails = select(arrivals.c.problem).where(arrivals.c.state == "parked")
    tables = [service.messaging.parked for service in installed_services()]
    return union_all(mails, *(select(table.c.reason) for table in tables))


def _answered(message: EmailMessage) -> str:
    """The Message-ID of what a mail answers; of a mail that had none, its subject."""
    bare = re.sub(r"^Re: | ?\[#[^]]*\]", "", str(message["Subject"]))
    return id_of(message, "In-Reply-To") or bare.strip()


def _taken_as(message: EmailMessage) -> str:
    """Postfix's name for a mail, which no other mail gets."""
    hops = " ".join(message.get_all("Received", []))
    (name,) = re.findall(r"\(Postfix\)\s+with\s+\w+\s+id\s+(\w+)", hops)
    return str(name)


def id_of(message: EmailMessage, header: str = "Message-ID") -> str:
    """A Message-ID without its brackets; empty where the header is missing."""
    return str(message[header] or "").strip().strip("<>")
