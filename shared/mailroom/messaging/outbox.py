"""The transactional outbox: events to publish are rows, committed with the state that they tell.

Invariant: an event's bytes are made once, here, and published as they are however often; its row
leaves the outbox only for `outbox_sent`, in the transaction that knows RabbitMQ's confirmation.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.messaging import topology
from mailroom.messaging.envelope import Outgoing
from mailroom.messaging.tables import MessagingTables


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


async def wake(tx: AsyncConnection, tables: MessagingTables) -> None:
    """Tell the relays of this service at commit that there is something."""
    await tx.execute(select(func.pg_notify(channel(tables), "")))


def _row(outgoing: Outgoing, moment: datetime) -> dict[str, Any]:
    event = outgoing.event
    return {
        "event_id": str(outgoing.event_id),
        "exchange": topology.EXCHANGE,
        "routing_key": event.routing_key(),
        "type": event.name,
        "correlation_id": outgoing.correlation_id,
        "mandatory": event.is_command,
        "body": event.model_dump_json(by_alias=True).encode(),
        "created_at": moment,
        "due": outgoing.due or moment,
    }
