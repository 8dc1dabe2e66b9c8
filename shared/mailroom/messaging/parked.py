"""Parked events: what could not be handled, kept with its bytes where a person finds it.

Invariant: an event is parked before RabbitMQ hears that it is settled, once a queue, publisher and
event id. A replay publishes the same bytes under the same id, so that replaying twice handles once;
the row goes in the transaction that handles the event. What was replayed and is neither handled nor
parked again since is on its way, and is replayed again only for whoever says so.
"""

import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging import outbox
from mailroom.messaging.admission import Delivery, Origin
from mailroom.messaging.failures import describe
from mailroom.messaging.tables import AnyRow, MessagingTables

PARKED = Counter("mailroom_parked", "Events that were parked", ["service", "queue"])

_DEEPEST_CAUSE = 5
_NUMBERS_AND_IDS = "[0-9a-f]{8}[0-9a-f-]{8,}|[0-9]+([.][0-9]+)*"


CHUNK = 1000
"""Events a transaction, where many are replayed or dropped."""


@dataclass(frozen=True)
class Which:
    """Some of the parked events."""

    queue: str | None = None
    reason: str | None = None
    """Words that the reason has, in any case; `…` and `*` stand for anything."""
    again: bool = False
    """To replay: also those that are on their way."""
    among: Collection[str] | None = None
    """Only of these queues."""

    def rows(self, tables: MessagingTables) -> ColumnElement[bool]:
        """The condition."""
        parked = tables.parked
        wanted: list[ColumnElement[bool]] = [true()]
        if self.queue is not None:
            wanted.append(parked.c.queue == self.queue)
        if self.among is not None:
            wanted.append(parked.c.queue.in_(self.among))
        if self.reason is not None:
            words = self.reason.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
            pattern = words.replace("…", "%").replace("*", "%")
            wanted.append(parked.c.reason.ilike(f"%{pattern}%"))
        return and_(*wanted)


class NotParked(Exception):
    """There is no parked event of this number (any more)."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        super().__init__(f"no parked event {id_}: it was handled, dropped, or never there")


class OnItsWay(Exception):
    """This parked event was replayed, and neither handled nor parked again since."""

    def __init__(self, id_: int, replayed_at: datetime) -> None:
        self.id, self.replayed_at = id_, replayed_at
        super().__init__(f"parked event {id_} is on its way since {replayed_at:%Y-%m-%d %H:%M:%S}")


@dataclass(frozen=True)
class Why:
    """Why an event is parked, in a person's words, and where the code stood."""

    reason: str
    trace: str = ""


async def park(
    tx: AsyncConnection,
    tables: MessagingTables,
    given: Delivery,
    by: Origin,
    why: Why,
    moment: datetime,
) -> bool:
    """Keep an event; `by.tries` is how often it was tried. Returns whether it is here first."""
    parked_before = await _park(tx, tables, [_row(given, by, why, moment)])
    return not any(parked_before)


async def park_many(
    tx: AsyncConnection,
    tables: MessagingTables,
    several: Sequence[tuple[Delivery, Origin, Why]],
    moment: datetime,
) -> None:
    """Keep many events in one statement."""
    rows = [_row(given, by, why, moment) for given, by, why in several]
    # The last of those that are there twice: one statement changes no row twice.
    by_key = {(row["queue"], row["publisher"], row["event_id"]): row for row in rows}
    # Sorted: two replicas with the same events take the locks in one order.
    await _park(tx, tables, [by_key[key] for key in sorted(by_key)])


async def _park(
    tx: AsyncConnection, tables: MessagingTables, rows: Sequence[dict[str, Any]]
) -> Sequence[bool]:
    """Write the rows; for each, in any order, whether it was there before."""
    new = insert(tables.parked).values(rows)
    kept = {"id", "queue", "publisher", "event_id", "first_at", "replayed_at"}
    newest = {name: value for name, value in new.excluded.items() if name not in kept}
    upsert = new.on_conflict_do_update(
        index_elements=["queue", "publisher", "event_id"], set_=newest | {"replayed_at": None}
    )
    return (await tx.scalars(upsert.returning(literal_column("xmax <> 0")))).all()


def _row(given: Delivery, by: Origin, why: Why, moment: datetime) -> dict[str, Any]:
    return {
        "queue": given.queue,
        "publisher": by.publisher,
        "event_id": given.key,
        "type": given.type,
        "routing_key": by.routing_key,
        "correlation_id": given.correlation_id or given.key,
        "headers": given.headers,
        "body": given.body,
        "published_at": given.published_at,
        "reason": why.reason.replace("\x00", "\ufffd"),
        "traceback": why.trace.replace("\x00", "\ufffd"),
        "tries": by.tries,
        "first_at": moment,
        "last_at": moment,
    }


async def latest(
    tx: AsyncConnection, tables: MessagingTables, which: Which, limit: int, skip: int = 0
) -> Sequence[AnyRow]:
    """The `limit` latest after the `skip` latest of them, without bodies and tracebacks.

    The latest is the last.
    """
    parked = tables.parked
    size = func.length(parked.c.body).label("size")
    columns = [column for column in parked.c if column.name not in ("body", "traceback")]
    found = select(*columns, size).where(which.rows(tables))
    newest = found.order_by(parked.c.last_at.desc(), parked.c.id.desc()).limit(limit).offset(skip)
    return (await tx.execute(newest)).all()[::-1]


async def count(tx: AsyncConnection, tables: MessagingTables, which: Which) -> int:
    """How many there are."""
    counted = select(func.count()).select_from(tables.parked).where(which.rows(tables))
    return int((await tx.execute(counted)).scalar_one())


async def reasons(tx: AsyncConnection, tables: MessagingTables, which: Which) -> Sequence[AnyRow]:
    """How many there are for each queue and reason, and since when; most first.

    Reasons that differ in numbers and ids alone are one, with `…` in their place.
    """
    parked = tables.parked
    reason = func.regexp_replace(parked.c.reason, _NUMBERS_AND_IDS, "…", "g").label("reason")
    events = func.count().label("events")
    first, last = func.min(parked.c.first_at), func.max(parked.c.last_at)
    found = (
        select(parked.c.queue, reason, events, first.label("first_at"), last.label("last_at"))
        .where(which.rows(tables))
        .group_by(parked.c.queue, reason)
        .order_by(events.desc(), parked.c.queue, reason)
    )
    return (await tx.execute(found)).all()


async def show(tx: AsyncConnection, tables: MessagingTables, id_: int) -> AnyRow:
    """One parked event, whole. Raises NotParked."""
    return await _one(tx, tables, select(tables.parked), id_)


async def replay(
    tx: AsyncConnection,
    tables: MessagingTables,
    service: str,
    id_: int,
    moment: datetime,
    *,
    again: bool = False,
) -> None:
    """Publish a parked event to its queue again, its tries counted anew.

    It stays parked until it is handled. Raises NotParked; and OnItsWay where it was replayed before
    and nobody says `again`. Of two at the same moment the second is told.
    """
    row = await _one(tx, tables, select(tables.parked).with_for_update(), id_)
    if row.replayed_at is not None and not again:
        raise OnItsWay(id_, row.replayed_at)
    await _replay(tx, tables, service, [id_], moment)


async def replay_some(
    tx: AsyncConnection,
    tables: MessagingTables,
    service: str,
    which: Which,
    after: int,
    due: datetime,
) -> Sequence[int]:
    """Publish the next CHUNK of these events above the id `after` again from `due` on; their ids.

    What is on its way is passed over.
    """
    parked = tables.parked
    waits = true() if which.again else parked.c.replayed_at.is_(None)
    found = (
        select(parked.c.id)
        .where(which.rows(tables), parked.c.id > after, waits)
        .order_by(parked.c.id)
        .limit(CHUNK)
        .with_for_update()
    )
    ids = (await tx.scalars(found)).all()
    if ids:
        await _replay(tx, tables, service, ids, due)
    return ids


async def _replay(
    tx: AsyncConnection,
    tables: MessagingTables,
    service: str,
    ids: Sequence[int],
    due: datetime,
) -> None:
    parked = tables.parked
    await outbox.add_parked_again(tx, tables, service, ids, due)
    await tx.execute(update(parked).where(parked.c.id.in_(ids)).values(replayed_at=due))


async def drop(tx: AsyncConnection, tables: MessagingTables, id_: int) -> datetime | None:
    """Forget a parked event, for good; since when it is on its way, if it is. Raises NotParked."""
    gone = delete(tables.parked).where(tables.parked.c.id == id_)
    row = (await tx.execute(gone.returning(tables.parked.c.replayed_at))).one_or_none()
    if row is None:
        raise NotParked(id_)
    replayed_at: datetime | None = row.replayed_at
    return replayed_at


async def drop_some(tx: AsyncConnection, tables: MessagingTables, which: Which) -> int:
    """Forget CHUNK of these events at most, for good; how many it were."""
    parked = tables.parked
    some = select(parked.c.id).where(which.rows(tables)).limit(CHUNK)
    return (await tx.execute(delete(parked).where(parked.c.id.in_(some)))).rowcount


async def _one(
    tx: AsyncConnection, tables: MessagingTables, query: Select[Any], id_: int
) -> AnyRow:
    row: AnyRow | None = (await tx.execute(query.where(tables.parked.c.id == id_))).one_or_none()
    if row is None:
        raise NotParked(id_)
    return row


def trace_of(error: BaseException) -> str:
    """Where an error was raised, and its causes, without the values of statements."""
    parts: list[str] = []
    at: BaseException | None = error
    while at is not None and len(parts) < _DEEPEST_CAUSE:
        parts.append("".join(traceback.format_tb(at.__traceback__)) + describe(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n\nThe cause of this:\n\n".join(parts)
