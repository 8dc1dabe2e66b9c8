"""The ids of events that were handled: what makes twice once.

Invariant: an id is recorded in the transaction of what its event caused. Ids are kept longer than
published events are, so that a replay of all there is still finds each event known.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    DateTime,
    Select,
    Text,
    bindparam,
    delete,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging.envelope import Received
from mailroom.messaging.tables import MessagingTables

KEPT_BEYOND_RETENTION = timedelta(days=60)
"""Beyond the consumer's own retention, which may be shorter than the publisher's. No service keeps
its events for longer than this, and no older event is replayed."""

_CHUNK = 10_000

Key = tuple[str, str]
"""Publisher and event id: two publishers may number their events alike."""


def key(event: Received[Any]) -> Key:
    """What an event is known by on its queue."""
    return event.publisher, event.event_id


async def take_new(
    tx: AsyncConnection,
    tables: MessagingTables,
    queue: str,
    keys: Collection[Key],
    moment: datetime,
) -> set[Key]:
    """Record `keys` as consumed on `queue`; returns those that were not yet.

    Waits for another transaction that is just recording one of them. A parked event that is handled
    now leaves the parked ones, if this commits.
    """
    # Sorted: two replicas that were given the same events take the locks in one order.
    publishers, ids = zip(*sorted(keys), strict=True)
    given = {"publishers": publishers, "ids": ids, "of": queue, "moment": moment}
    rows = await tx.execute(_taking(tables), given)
    return {(publisher, event_id) for publisher, event_id in rows}


@cache
def _taking(tables: MessagingTables) -> Select[Any]:
    """Built once: building it takes as long as executing it."""
    consumed, parked = tables.consumed, tables.parked
    given = select(
        func.unnest(bindparam("publishers", type_=ARRAY(Text))).label("publisher"),
        func.unnest(bindparam("ids", type_=ARRAY(Text))).label("event_id"),
    ).subquery("given")
    queue, moment = bindparam("of", type_=Text), bindparam("moment", type_=DateTime(timezone=True))
    fresh = (
        insert(consumed)
        .from_select(
            ["queue", "publisher", "event_id", "consumed_at"],
            select(queue, given.c.publisher, given.c.event_id, moment).order_by(
                given.c.publisher, given.c.event_id
            ),
        )
        .on_conflict_do_nothing()
        .returning(consumed.c.queue, consumed.c.publisher, consumed.c.event_id)
        .cte("fresh")
    )
    unparked = (
        delete(parked)
        .where(
            # Not `queue`: PostgreSQL would read all that the queue has parked, for each event.
            parked.c.queue == fresh.c.queue,
            parked.c.publisher == fresh.c.publisher,
            parked.c.event_id == fresh.c.event_id,
        )
        .cte("unparked")
    )
    return select(fresh.c.publisher, fresh.c.event_id).add_cte(unparked)


async def forget_some(tx: AsyncConnection, tables: MessagingTables, before: datetime) -> int:
    """Forget up to 10,000 ids that were consumed before `before`. Returns how many it were."""
    consumed = tables.consumed
    identity = tuple_(consumed.c.queue, consumed.c.publisher, consumed.c.event_id)
    old = (
        select(consumed.c.queue, consumed.c.publisher, consumed.c.event_id)
        .where(consumed.c.consumed_at < before)
        .limit(_CHUNK)
    )
    return (await tx.execute(delete(consumed).where(identity.in_(old)))).rowcount
