"""The relay: brings the rows of the outbox to RabbitMQ, at least once, for as long as it takes.

Invariant: attempts are unlimited. A row leaves the outbox when RabbitMQ has confirmed it; a relay
that ends between confirmation and commit publishes it again, with the same id. A row that fails by
itself tells its problem and lets others pass.

It is ours because the library for this is five times slower and costs five times the processor
time: it publishes one row after another, this one a window with all confirmations in flight.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError

from mailroom import clock, notifications, waiting
from mailroom.crashpoints import crashpoint
from mailroom.database import may_idle
from mailroom.messaging import outbox, publishing
from mailroom.messaging.addresses import broker_address
from mailroom.messaging.failures import DatabaseAway, describe
from mailroom.messaging.presence import begin
from mailroom.messaging.stopping import end_if_cancelled, is_cancelled, leave, to_its_end
from mailroom.messaging.tables import AnyRow
from mailroom.service import Resources, Service

log = structlog.get_logger("mailroom.messaging")

RELAYED = Counter("mailroom_relayed", "Events that RabbitMQ confirmed", ["service", "event"])
POSTPONED = Counter("mailroom_relay_problems", "Events that failed by themselves", ["service"])

WINDOW = 200
"""Rows a round: claimed together, with all their confirmations in flight."""

POLL = 1.0
"""Seconds between looks for rows that nobody told of: what falls due, and lost notifications."""

CONFIRMS_AT_LAST = 30.0
"""Seconds: if a relay stands still for so long, others publish what it has claimed."""

LONGEST_PAUSE = 4.0
"""Seconds: what waits for RabbitMQ goes on soon after its return, however long it was away."""
_CONNECT_WITHIN = 10.0
_WAITED_OUT = (
    AMQPError,
    ChannelInvalidStateError,
    SQLAlchemyError,
    DatabaseAway,
    OSError,
    TimeoutError,
)


Publish = Callable[[Sequence[AnyRow], str, float], Awaitable[publishing.Outcome]]
"""Publishes rows as this user, within so many seconds."""


class BrokerStalled(Exception):
    """RabbitMQ did not confirm in time: an alarm, or a queue without its quorum."""


class ChannelBroken(Exception):
    """One of the rows closed the channel, and with it the connection.

    The frames behind it are for a channel that is no more, and for that RabbitMQ closes the
    connection.
    """


async def relay(service: Service[Any], resources: Resources[Any]) -> None:
    """Publish what is due, until cancelled; the round in hand then ends first.

    Any number of relays may run for one service: each row is claimed by one.
    """
    woken = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_listen(service, resources, woken))
        group.create_task(_relay_for_ever(service, resources, woken))


async def _relay_for_ever(
    service: Service[Any], resources: Resources[Any], woken: asyncio.Event
) -> None:
    pause, one_by_one = 1.0, False
    while True:
        end_if_cancelled()
        try:
            async with _connected(service, resources) as connection:
                channel = await publishing.open_channel(connection, publishing.CONFIRM_WITHIN)
                together = partial(publishing.publish, channel)
                alone = partial(publishing.publish_one_by_one, connection)
                await relay_once(service, resources, alone if one_by_one else together)
                pause, one_by_one = 1.0, False
                await _relay_while_connected(service, resources, together, woken)
        except ChannelBroken:
            one_by_one = True
            continue
        except (*_WAITED_OUT, BrokerStalled) as failed:
            log.warning("relay_waits", service=service.name, problem=describe(failed), again=pause)
        except asyncio.CancelledError:
            # Or aiormq's word for a closed connection.
            if is_cancelled():
                raise
        # Jitter: replicas do not come back all at once.
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
        pause = min(pause * 2, LONGEST_PAUSE)


async def _relay_while_connected(
    service: Service[Any],
    resources: Resources[Any],
    publish: Publish,
    woken: asyncio.Event,
) -> None:
    while True:
        end_if_cancelled()
        woken.clear()
        # After less than a window nothing is due, or somebody tells of it.
        while await to_its_end(relay_once(service, resources, publish)) == WINDOW:
            end_if_cancelled()
        await waiting.is_set(woken, within=POLL)


async def relay_once(
    service: Service[Any],
    resources: Resources[Any],
    publish: Publish,
    within: float = publishing.CONFIRM_WITHIN,
) -> int:
    """Claim, publish and move one window of due rows. Returns how many it were.

    Raises BrokerStalled, if not all was confirmed `within` seconds, and ChannelBroken; what was
    confirmed has been moved then. Raises ChannelInvalidStateError, AMQPError or OSError where there
    is nothing to publish on.
    """
    tables, moment = resources.messaging, clock.now()
    async with begin(resources.engine) as tx:
        # A row claimed twice at once is claimed by nobody else: the locks end with `tx`.
        rows = await outbox.claim(tx, tables, moment, WINDOW)
        if not rows:
            return 0
        crashpoint("relay.claimed", service.name)
        await may_idle(tx, CONFIRMS_AT_LAST)
        once = {row.event_id: row for row in rows}
        outcome = await publish(list(once.values()), service.name, within)
        if outcome.confirmed:
            crashpoint("relay.published", service.name)
            await outbox.make_day(tx, tables, moment)
            await outbox.move_to_sent(tx, tables, outcome.confirmed, moment)
        if outcome.problems:
            attempts = {row.id: row.attempts for row in rows}
            await outbox.postpone(tx, tables, outcome.problems, attempts, moment)
    crashpoint("relay.moved", service.name)
    _tell(service.name, rows, outcome)
    if outcome.is_stalled:
        raise BrokerStalled(f"{len(outcome.confirmed)} of {len(rows)} confirmed in {within:g} s")
    if outcome.is_broken:
        raise ChannelBroken
    return len(rows)


@asynccontextmanager
async def _connected(
    service: Service[Any], resources: Resources[Any]
) -> AsyncIterator[AbstractConnection]:
    """A connection of its own: under an alarm RabbitMQ stops reading from whoever publishes."""
    url = broker_address(resources.settings, f"{service.name} relay")
    connection = await aio_pika.connect(url, timeout=_CONNECT_WITHIN)
    try:
        yield connection
    finally:
        await leave(connection)


async def _listen(service: Service[Any], resources: Resources[Any], woken: asyncio.Event) -> None:
    """Set `woken` at each NOTIFY. While none is heard, the poll goes on."""
    url, channel = resources.settings.database_url, outbox.channel(resources.messaging)
    name = f"{service.name} listen"
    await notifications.listen(url, name, channel, lambda _: woken.set(), woken.set)


def _tell(service: str, rows: Sequence[AnyRow], outcome: publishing.Outcome) -> None:
    by_id = {row.id: row for row in rows}
    for id_ in outcome.confirmed:
        RELAYED.labels(service, by_id[id_].type).inc()
    for id_, problem in outcome.problems.items():
        POSTPONED.labels(service).inc()
        row = by_id[id_]
        log.warning(
            "relay_problem",
            service=service,
            event_id=row.event_id,
            type=row.type,
            correlation_id=row.correlation_id,
            attempts=row.attempts + 1,
            problem=problem,
        )
