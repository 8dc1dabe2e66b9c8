"""Consume once: what a service subscribes to is handled in batches, each event exactly once.

Invariant: the consumed ids, what the handler wrote and what it publishes commit in one transaction,
and RabbitMQ is told after that. A batch that fails is handled event by event, so that one bad event
fails no other; what then fails is retried later or parked, and written down before RabbitMQ hears
of it. While PostgreSQL is away nothing is in hand.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import structlog
from aio_pika.abc import AbstractRobustQueue
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.rabbit.configs import RabbitBrokerConfig
from faststream.rabbit.subscriber import RabbitSubscriber
from prometheus_client import Counter, Histogram

from mailroom import clock
from mailroom.crashpoints import crashpoint
from mailroom.database import may_idle, showing_life
from mailroom.messaging import backlog, dead, failures, outbox, parked, pruning, relay
from mailroom.messaging.addresses import CONNECT_WITHIN, HEARTBEAT, check_user
from mailroom.messaging.admission import Delivery, Misfit, admit, delivery, origin, presumed_origin
from mailroom.messaging.consumed import key, take_new
from mailroom.messaging.envelope import Received
from mailroom.messaging.intake import Messages, consume_for_ever
from mailroom.messaging.presence import begin, recording, until_writable
from mailroom.messaging.topology import dead_queue, queue_name
from mailroom.service import Refused, Resources, Service, Subscription
from mailroom.settings import ServiceSettings

log = structlog.get_logger("mailroom.messaging")

OUTCOMES = Counter("mailroom_events", "Events by what became of them", ["queue", "outcome"])
BATCH = Histogram(
    "mailroom_batch_events", "Events a batch", ["queue"], buckets=(1, 2, 5, 10, 20, 50, 100, 500)
)
LAG = Histogram(
    "mailroom_queue_lag_seconds",
    "From an event's own time to its handling, retries left out",
    ["queue"],
    buckets=(0.1, 0.5, 1, 2, 5, 15, 60, 300, 1800, 7200),
)

HANDLE_WITHIN = 600.0
"""Seconds a handler has for a batch. RabbitMQ takes a message for lost after 30 minutes, and a
handler that hangs would hold up its queue for ever."""

THINKS_WITHIN = 60.0
"""Seconds for which a handler may hold up the event loop. If it stands still for longer, or its
process does, its transaction is ended, and the others get its events."""

Loop = Callable[[], Awaitable[None]]
"""Started by a call, ended by cancellation: within seconds, with what is in hand settled or given
back. It rides out the absence of RabbitMQ and PostgreSQL for any time by itself."""


@dataclass(frozen=True)
class _Consumer:
    service: Service[Any]
    subscription: Subscription
    resources: Resources[Any]
    queue: str


@dataclass(frozen=True)
class _Fit:
    given: Delivery
    event: Received[Any]


def broker_for(service: Service[Any], settings: ServiceSettings) -> RabbitBroker:
    """The service's consumer connection, with a subscriber for each of its queues.

    Start it before the loops, and stop it after they have ended. Started while RabbitMQ is away, it
    waits. Raises SettingsRefused if the broker URL's user is not the service.
    """
    check_user(service.name, settings)
    broker = RabbitBroker(
        str(settings.broker_url),
        client_properties={"heartbeat": HEARTBEAT},
        # By default it waits for ever where something takes the connection and says nothing.
        timeout=CONNECT_WITHIN,
        fail_fast=False,
        reconnect_interval=1,
        app_id=service.name,
        logger=None,
    )
    for subscription in service.subscriptions:
        broker.subscriber(
            # Declared by `mailroom migrate`; a service may not, and would be refused.
            RabbitQueue(queue_name(service.name, subscription.contract), declare=False),
            # Each its own channel, with a limit: there is none by default.
            channel=Channel(prefetch_count=2 * settings.batch),
            ack_policy=AckPolicy.MANUAL,
        )
    return broker


def queues(service: Service[Any]) -> list[str]:
    """Every queue that the service reads; they must be there before it starts."""
    own = (queue_name(service.name, each.contract) for each in service.subscriptions)
    return [*own, dead_queue(service.name)]


def tasks(
    service: Service[Any], broker: RabbitBroker, resources: Resources[Any]
) -> list[tuple[str, Loop]]:
    """The service's loops, by name: consumers, relay, drain of dead letters, pruning, gauges."""
    consumers = [
        _Consumer(service, subscription, resources, queue_name(service.name, subscription.contract))
        for subscription in service.subscriptions
    ]
    return [
        *((f"consume {at.queue}", partial(_consume, at, broker)) for at in consumers),
        ("relay", partial(relay.relay, service, resources)),
        ("drain", partial(dead.drain, service, resources)),
        ("prune", partial(pruning.prune, service, resources)),
        ("watch", partial(backlog.watch, service, resources)),
    ]


async def _consume(at: _Consumer, broker: RabbitBroker) -> None:
    resources = at.resources
    while True:
        queue = await _queue_of(at.queue, broker)
        try:
            await consume_for_ever(queue, resources.settings.batch, partial(_settle, at))
        except failures.DatabaseAway as away:
            log.warning("database_away", queue=at.queue, problem=str(away))
            await until_writable(resources.engine, resources.messaging)


async def _queue_of(name: str, broker: RabbitBroker) -> AbstractRobustQueue:
    """The queue of a started subscriber, on its own channel.

    Its `async for` is not used: if RabbitMQ goes while messages are in hand, aio-pika's iterator
    ends after a minute, but stays registered, and what comes then goes where nobody takes it.
    """
    subscribers = cast("list[RabbitSubscriber]", broker.subscribers)
    own = next(each for each in subscribers if each.queue.name == name)
    config = cast("RabbitBrokerConfig", broker.config)
    return await config.declarer.declare_queue(own.queue, channel=own.channel)


async def _settle(at: _Consumer, messages: Messages) -> None:
    """Handle, retry or park each message, all committed. Raises DatabaseAway."""
    moment = clock.now()
    BATCH.labels(at.queue).observe(len(messages))
    fits: list[_Fit] = []
    for message in messages:
        given = delivery(at.queue, message, moment)
        try:
            event = admit(given, at.subscription.contract, at.service.name)
        except Misfit as misfit:
            await _park_misfit(at, given, misfit)
        else:
            fits.append(_Fit(given, event))
    if fits:
        await _handle_all(at, fits)


async def _handle_all(at: _Consumer, fits: Sequence[_Fit]) -> None:
    started = time.perf_counter()
    try:
        new = await _handle(at, [fit.event for fit in fits])
    except Exception as error:
        if failures.database_is_away(error):
            OUTCOMES.labels(at.queue, "given_back").inc(len(fits))
            raise failures.DatabaseAway(failures.describe(error)) from error
        if len(fits) == 1:
            await _sort(at, fits[0], error, started)
            return
        log.info("batch_failed", queue=at.queue, events=len(fits), why=failures.describe(error))
        for fit in fits:
            await _handle_all(at, [fit])
        return
    for fit in fits:
        is_new = id(fit.event) in new
        if is_new and not fit.event.tries:
            lag = (clock.now() - fit.event.published_at).total_seconds()
            LAG.labels(at.queue).observe(max(lag, 0))
        _tell(at, "handled" if is_new else "duplicate", fit.given, started)


async def _handle(at: _Consumer, events: Sequence[Received[Any]]) -> set[int]:
    """One transaction. Returns which objects of `events` were new: one of each key."""
    resources = at.resources
    # The first of each: an event may be twice in one batch.
    by_key = {key(event): event for event in reversed(events)}
    async with begin(resources.engine) as tx:
        await may_idle(tx, THINKS_WITHIN)
        keys = await take_new(tx, resources.messaging, at.queue, by_key, clock.now())
        new = [event for event in events if by_key[key(event)] is event and key(event) in keys]
        crashpoint("handler.ids_taken", at.queue)
        if new:
            async with asyncio.timeout(HANDLE_WITHIN), showing_life(tx):
                outgoing = await at.subscription.handler(tx, new, resources)
            await outbox.add(tx, resources.messaging, outgoing)
            crashpoint("handler.done", at.queue)
    crashpoint("handler.committed", at.queue)
    return {id(event) for event in new}


async def _sort(at: _Consumer, fit: _Fit, error: Exception, started: float) -> None:
    """Write down what becomes of an event that failed by itself."""
    tables, engine = at.resources.messaging, at.resources.engine
    tries, moment = fit.event.tries + 1, clock.now()
    by = replace(origin(fit.given, at.service.name), tries=tries)
    match failures.decide(error, tries, at.resources.settings.tries):
        case failures.GiveBack(reason):
            raise failures.DatabaseAway(reason) from error
        case failures.Retry(reason, after, asks, counts):
            by = by if counts else replace(by, tries=fit.event.tries)
            async with recording(engine) as tx:
                await outbox.add_again(tx, tables, at.service.name, fit.given, by, moment + after)
                await outbox.add(tx, tables, asks)
            crashpoint("handler.retry_committed", at.queue)
            _tell(at, "retried", fit.given, started, reason=reason, tries=tries)
        case failures.Park(reason):
            why = parked.Why(reason, parked.trace_of(error))
            async with recording(engine) as tx:
                await parked.park(tx, tables, fit.given, by, why, moment)
            crashpoint("handler.park_committed", at.queue)
            parked.PARKED.labels(at.service.name, at.queue).inc()
            _tell(at, "parked", fit.given, started, reason=reason, tries=tries)


async def _park_misfit(at: _Consumer, given: Delivery, misfit: Misfit) -> None:
    """Park a message that is no event of this queue, and tell its publisher once."""
    started = time.perf_counter()
    tables, refuse = at.resources.messaging, at.subscription.refuse
    by = presumed_origin(given, at.service.name)
    async with recording(at.resources.engine) as tx:
        first = await parked.park(tx, tables, given, by, parked.Why(misfit.reason), clock.now())
        if first and misfit.errors and refuse is not None:
            refused = Refused(
                event_id=given.event_id,
                publisher=by.publisher,
                correlation_id=given.correlation_id or given.event_id,
                body=given.body,
                errors=misfit.errors,
            )
            await outbox.add(tx, tables, refuse(refused))
    crashpoint("handler.misfit_committed", at.queue)
    parked.PARKED.labels(at.service.name, at.queue).inc()
    _tell(at, "parked", given, started, reason=misfit.reason, tries=by.tries)


def _tell(at: _Consumer, outcome: str, given: Delivery, started: float, **more: object) -> None:
    """The one line that each message gets."""
    OUTCOMES.labels(at.queue, outcome).inc()
    level = "warning" if outcome in ("retried", "parked") else "info"
    getattr(log, level)(
        outcome,
        queue=at.queue,
        event_id=given.key,
        correlation_id=given.correlation_id,
        publisher=given.user,
        ms=round((time.perf_counter() - started) * 1000, 1),
        **more,
    )
