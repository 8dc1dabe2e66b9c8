"""Drains dead letters: events that were delivered again and again, and never answered for, or that
were published with a time to live and expired.

Invariant: what the broker gave up becomes a parked row, with the queue that it came from, before it
leaves `dead.<service>`. The drain has a connection of its own: a message that the client cannot
even read breaks the connection that it comes by, and must break no consumer's. RabbitMQ moves such
a message on to the queue `mailroom.buried`, where only a person looks.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import aio_pika
import structlog
from yarl import URL

from mailroom import clock
from mailroom.crashpoints import crashpoint
from mailroom.messaging import parked
from mailroom.messaging.addresses import CONNECT_WITHIN, broker_address
from mailroom.messaging.admission import Delivery, delivery, presumed_origin
from mailroom.messaging.failures import DatabaseAway
from mailroom.messaging.intake import Messages, consume_for_ever
from mailroom.messaging.presence import recording, until_writable
from mailroom.messaging.stopping import leave
from mailroom.messaging.topology import dead_queue
from mailroom.service import Resources, Service

log = structlog.get_logger("mailroom.messaging")

_AT_ONCE = 50
_WHY = {
    "delivery_limit": "handling it ended the process or its connection each time",
    "expired": "its publisher gave it a time to live, and it was not taken within that",
}
"""What the broker's words for a death mean, in a person's."""


async def drain(service: Service[Any], resources: Resources[Any]) -> None:
    """Park what comes to the service's dead-letter queue, until cancelled."""
    url = broker_address(resources.settings, f"{service.name} drain")
    # Not by connect_robust: cancelled while it waits for RabbitMQ, it would connect all the same.
    connection = aio_pika.RobustConnection(URL(url), fail_fast=False, reconnect_interval=1)
    try:
        await connection.connect(CONNECT_WITHIN)
        channel = await connection.channel()
        queue = await channel.declare_queue(dead_queue(service.name), passive=True)
        while True:
            try:
                await consume_for_ever(queue, _AT_ONCE, partial(_park_all, service, resources))
            except DatabaseAway:
                await until_writable(resources.engine, resources.messaging)
    finally:
        await leave(connection)


async def _park_all(service: Service[Any], resources: Resources[Any], messages: Messages) -> None:
    moment = clock.now()
    dead = [last_life(delivery("", message, moment)) for message in messages]
    async with recording(resources.engine) as tx:
        several = [
            (given, presumed_origin(given, service.name), parked.Why(reason(given)))
            for given in dead
        ]
        await parked.park_many(tx, resources.messaging, several, moment)
    crashpoint("drain.committed", service.name)
    for given in dead:
        parked.PARKED.labels(service.name, given.queue).inc()
        log.error(
            "parked",
            service=service.name,
            queue=given.queue,
            event_id=given.key,
            correlation_id=given.correlation_id,
            reason=reason(given),
        )


def last_life(given: Delivery) -> Delivery:
    """A dead letter as it was on the queue that it died on (`x-death`, the latest first)."""
    match given.headers:
        case {"x-death": [{"queue": str(queue), "exchange": str(exchange), **rest}, *_]}:
            return replace(given, queue=queue, exchange=exchange, routing_key=_first_key(rest))
    return replace(given, queue=given.queue or "unknown")


def reason(given: Delivery) -> str:
    """Why the broker gave a dead letter up, at its latest death."""
    match given.headers:
        case {"x-death": [{"reason": str(word)}, *_]}:
            return f"{word}: {_WHY.get(word, 'the broker gave it up')}"
    return "the broker gave it up, and does not say why"


def _first_key(death: Mapping[Any, Any]) -> str:
    match death:
        case {"routing-keys": [str(key), *_]}:
            return key
    return ""
