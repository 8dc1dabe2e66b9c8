"""The transactional outbox: events to publish are rows, committed with the state that they tell.

Invariant: an event's bytes are made once, here, and published as they are however often; its row
leaves the outbox only for `outbox_sent`, in the transaction that knows RabbitMQ's confirmation.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Insert,
    Integer,
    Select,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.arrays import rows_of
from mailroom.messaging.admission import Delivery, Origin, retry_headers
from mailroom.messaging.consumed import KEPT_BEYOND_RETENTION
from mailroom.messaging.envelope import Outgoing
from mailroom.messaging.tables import AnyRow, MessagingTables
from mailroom.messaging.topology import EXCHANGE, retry_exchange

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)

A_SECOND = 200
"""Of many events published again: fewer than a service handles, so that new ones need not wait."""

_NOTIFYING = select(func.pg_notify(bindparam("channel", type_=Text), ""))


def channel(tables: MessagingTables) -> str:
    """The NOTIFY channel of one service: a shared one would wake every relay of the database."""
    return f"mailroom_outbox_{tables.schema}"


async def add(tx: AsyncConnection, tables: MessagingTables, events: Sequence[Outgoing]) -> None:
    """Publish `events` when `tx` commits, each as soon as it is due; never if it rolls back."""
    if not events:
        return
    moment = clock.now()
    await tx.execute(insert(tables.outbox), [_row(event, moment) for event in events])
    await wake(tx, tables)


async def add_again(
    tx: AsyncConnection,
    tables: MessagingTables,
    service: str,
    given: Delivery,
    by: Origin,
    due: datetime,
) -> None:
    """Publish an event again, at `due`, to its own queue alone: same id, same bytes.

    `by.tries` is how often it was tried. It goes through the service's own retry exchange: the
    default exchange would need a right that opens every queue.
    """
    row = {
        "event_id": given.key,
        "exchange": retry_exchange(service),
        "routing_key": given.queue,
        "type": given.type,
        "correlation_id": given.correlation_id or given.key,
        "headers": retry_headers(by.publisher, by.routing_key, by.tries),
        "mandatory": True,
        "body": given.body,
        "created_at": given.published_at,
        "due": due,
    }
    await tx.execute(insert(tables.outbox), row)
    await wake(tx, tables)


async def add_parked_again(
    tx: AsyncConnection, tables: MessagingTables, service: str, ids: Sequence[int], due: datetime
) -> None:
    """Publish parked events again, as `add_again` does, the first at `due`, `A_SECOND` a second.

    Their bytes do not leave the database.
    """
    parked = tables.parked
    headers = retry_headers(parked.c.publisher, parked.c.routing_key, 0)
    again: dict[str, Any] = {
        "event_id": parked.c.event_id,
        "exchange": literal(retry_exchange(service)),
        "routing_key": parked.c.queue,
        "type": parked.c.type,
        "correlation_id": parked.c.correlation_id,
        "headers": func.jsonb_build_object(*chain.from_iterable(headers.items())),
        "mandatory": literal(True),  # noqa: FBT003 -- a column's value
        "body": parked.c.body,
        "created_at": parked.c.published_at,
        "due": _paced(due, parked.c.id),
    }
    rows = select(*again.values()).where(parked.c.id.in_(ids)).order_by(parked.c.id)
    await tx.execute(insert(tables.outbox).from_select(list(again), rows))
    await wake(tx, tables)


async def wake(tx: AsyncConnection, tables: MessagingTables) -> None:
    """Tell the relays of this service at commit that there is something."""
    await tx.execute(_NOTIFYING, {"channel": channel(tables)})


async def claim(
    tx: AsyncConnection, tables: MessagingTables, moment: datetime, limit: int
) -> Sequence[AnyRow]:
    """Rows due at `moment`, oldest first, locked until `tx` ends; others' locks are passed by."""
    given = {"moment": moment, "limit": limit}
    rows: Sequence[AnyRow] = (await tx.execute(_claiming(tables), given)).all()
    return rows


@cache
def _claiming(tables: MessagingTables) -> Select[Any]:
    outbox = tables.outbox
    return (
        select(outbox)
        .where(outbox.c.due <= bindparam("moment"))
        .order_by(outbox.c.due, outbox.c.id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
    )


async def make_day(tx: AsyncConnection, tables: MessagingTables, moment: datetime) -> None:
    """Make the day of `outbox_sent` that rows sent at `moment` go into, if it is missing."""
    await tx.execute(_making_day(tables), {"moment": moment})


@cache
def _making_day(tables: MessagingTables) -> Select[Any]:
    functions = getattr(func, tables.schema)
    moment = bindparam("moment", type_=DateTime(timezone=True))
    return select(functions.make_outbox_day(moment))


async def move_to_sent(
    tx: AsyncConnection, tables: MessagingTables, ids: Collection[int], moment: datetime
) -> None:
    """Move confirmed rows into the day of `moment`, which must have been made."""
    await tx.execute(_moving(tables), {"ids": list(ids), "moment": moment})


@cache
def _moving(tables: MessagingTables) -> Insert:
    """Built once: building it takes longer than executing it."""
    outbox, sent = tables.outbox, tables.outbox_sent
    confirmed = rows_of("ids", BigInteger)
    moment = bindparam("moment", type_=DateTime(timezone=True))
    columns = [outbox.c[column.name] for column in sent.c if column.name != "sent_at"]
    gone = delete(outbox).where(outbox.c.id == confirmed.c.value).returning(*columns).cte("gone")
    return insert(sent).from_select([*gone.c.keys(), "sent_at"], select(gone, moment))


async def postpone(
    tx: AsyncConnection,
    tables: MessagingTables,
    problems: Mapping[int, str],
    attempts: Mapping[int, int],
    moment: datetime,
) -> None:
    """Tell the problem of rows that failed by themselves, and let others pass for a while."""
    outbox = tables.outbox
    await tx.execute(
        update(outbox)
        .where(outbox.c.id == bindparam("row"))
        .values(problem=bindparam("why"), attempts=outbox.c.attempts + 1, due=bindparam("later")),
        [
            {"row": id_, "why": problem, "later": moment + _pause(attempts[id_])}
            for id_, problem in problems.items()
        ],
    )


async def republish(
    tx: AsyncConnection,
    tables: MessagingTables,
    since: datetime,
    names: Collection[str],
    moment: datetime,
) -> int:
    """Publish again what was sent since `since`, with the same event ids; returns how many events.

    From `moment` on, `A_SECOND` a second. `names` are contracts' names; none means all. Consumers
    that had an event know it by its id. One that was replayed month after month until they may have
    forgotten it is not replayed again.
    """
    sent = tables.outbox_sent
    names_kept = [column.name for column in sent.c if column.name not in ("id", "sent_at")]
    once = (
        select(*(sent.c[name] for name in names_kept))
        .where(
            sent.c.sent_at >= since,
            sent.c.exchange == EXCHANGE,
            sent.c.created_at > moment - KEPT_BEYOND_RETENTION,
        )
        # It may have been republished before.
        .ext(distinct_on(sent.c.event_id, sent.c.routing_key))
        .order_by(sent.c.event_id, sent.c.routing_key)
    )
    if names:
        once = once.where(sent.c.type.in_(names))
    events = once.subquery("events")
    due = _paced(moment, events.c.created_at)
    added = await tx.execute(
        insert(tables.outbox).from_select(
            [*names_kept, "due"], select(events, due).order_by(events.c.created_at)
        )
    )
    await wake(tx, tables)
    return added.rowcount


def last_due(moment: datetime, count: int) -> datetime:
    """When the last of many events is published that are published again from `moment` on."""
    return moment + timedelta(seconds=max(count - 1, 0) / A_SECOND)


def _paced(moment: datetime, order: ColumnElement[Any]) -> ColumnElement[datetime]:
    """When each of many rows is due."""
    before = func.row_number().over(order_by=order) - 1
    return literal(moment) + func.make_interval(0, 0, 0, 0, 0, 0, before / float(A_SECOND))


def _row(outgoing: Outgoing, moment: datetime) -> dict[str, Any]:
    event = outgoing.event
    return {
        "event_id": str(outgoing.event_id),
        "exchange": EXCHANGE,
        "routing_key": event.routing_key(),
        "type": event.name,
        "correlation_id": outgoing.correlation_id,
        "mandatory": event.is_command,
        "body": event.model_dump_json(by_alias=True).encode(),
        "created_at": moment,
        "due": outgoing.due or moment,
    }


def _pause(attempts: int) -> timedelta:
    return min(FIRST_PAUSE * float(2 ** min(attempts, 16)), LONGEST_PAUSE)
