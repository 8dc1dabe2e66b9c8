"""Parked events: what could not be handled, kept with its bytes where a person finds it.

Invariant: an event is parked before RabbitMQ hears that it is settled, once a queue, publisher and
event id. A replay publishes the same bytes under the same id, so that replaying twice handles once;
the row goes in the transaction that handles the event.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter
from sqlalchemy import ColumnElement, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging import outbox
from mailroom.messaging.admission import Delivery, Origin
from mailroom.messaging.failures import describe
from mailroom.messaging.tables import AnyRow, MessagingTables

PARKED = Counter("mailroom_parked", "Events that were parked", ["service", "queue"])

_DEEPEST_CAUSE = 5


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
    parked = tables.parked
    latest = {
        "type": given.type,
        "routing_key": by.routing_key,
        "correlation_id": given.correlation_id or given.key,
        "headers": given.headers,
        "body": given.body,
        "published_at": given.published_at,
        "reason": why.reason.replace("\x00", "\ufffd"),
        "traceback": why.trace.replace("\x00", "\ufffd"),
        "tries": by.tries,
        "last_at": moment,
    }
    new = insert(parked).values(
        queue=given.queue, publisher=by.publisher, event_id=given.key, first_at=moment, **latest
    )
    upsert = new.on_conflict_do_update(
        index_elements=["queue", "publisher", "event_id"], set_=latest
    )
    return bool(await tx.scalar(upsert.returning(literal_column("xmax = 0"))))


async def list_all(tx: AsyncConnection, tables: MessagingTables) -> Sequence[AnyRow]:
    """All parked events without their bodies and tracebacks, the latest last."""
    parked = tables.parked
    size = func.length(parked.c.body).label("size")
    columns = [column for column in parked.c if column.name not in ("body", "traceback")]
    return (await tx.execute(select(*columns, size).order_by(parked.c.last_at))).all()


async def show(tx: AsyncConnection, tables: MessagingTables, id_: int) -> AnyRow | None:
    """One parked event, whole."""
    return (await tx.execute(select(tables.parked).where(_is(tables, id_)))).one_or_none()


async def replay(
    tx: AsyncConnection, tables: MessagingTables, service: str, id_: int, moment: datetime
) -> bool:
    """Publish a parked event to its queue again, its tries counted anew. False: no such row.

    It stays parked until it is handled.
    """
    row = await show(tx, tables, id_)
    if row is None:
        return False
    given = Delivery(
        queue=row.queue,
        exchange="",
        routing_key=row.routing_key,
        user=row.publisher,
        event_id=row.event_id,
        type=row.type,
        correlation_id=row.correlation_id,
        published_at=row.published_at,
        body=row.body,
    )
    origin = Origin(row.publisher, row.routing_key)
    await outbox.add_again(tx, tables, service, given, origin, moment)
    await tx.execute(update(tables.parked).where(_is(tables, id_)).values(replayed_at=moment))
    return True


async def drop(tx: AsyncConnection, tables: MessagingTables, id_: int) -> bool:
    """Forget a parked event, for good. False: no such row."""
    return (await tx.execute(delete(tables.parked).where(_is(tables, id_)))).rowcount == 1


def trace_of(error: BaseException) -> str:
    """Where an error was raised, and its causes, without the values of statements."""
    parts: list[str] = []
    at: BaseException | None = error
    while at is not None and len(parts) < _DEEPEST_CAUSE:
        parts.append("".join(traceback.format_tb(at.__traceback__)) + describe(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n\nThe cause of this:\n\n".join(parts)


def _is(tables: MessagingTables, id_: int) -> ColumnElement[bool]:
    return tables.parked.c.id == id_
