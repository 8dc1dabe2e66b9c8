"""Publishes rows of the outbox to RabbitMQ, and says of each whether RabbitMQ has it.

Invariant: a row is *confirmed* (RabbitMQ has it, and had a queue for it if it is mandatory), or has
a *problem* of its own, or is *open*: the broker's fault, to be tried again as it is.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

from aio_pika.abc import AbstractChannel, AbstractConnection, DeliveryMode
from aio_pika.exceptions import (
    AMQPChannelError,
    AMQPConnectionError,
    ChannelInvalidStateError,
    DeliveryError,
)
from aiormq import Channel
from pamqp.commands import Basic

from mailroom.crashpoints import crashpoint
from mailroom.messaging.tables import AnyRow

CONFIRM_WITHIN = 10.0
"""Seconds. Under a memory or disk alarm RabbitMQ neither confirms nor refuses, for ever."""

_CHANNEL_LOST = (AMQPChannelError, AMQPConnectionError, ChannelInvalidStateError, OSError)


@dataclass
class Outcome:
    """What became of rows, by their id. Rows in neither are open."""

    confirmed: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    is_stalled: bool = False
    """Not all was confirmed in time. The connection is of no more use."""
    is_broken: bool = False
    """One of the rows closed the channel, nobody knows which. The connection is of no more use."""


async def publish(
    channel: AbstractChannel, rows: Sequence[AnyRow], user: str, within: float
) -> Outcome:
    """Publish rows with all confirmations in flight, on a channel of `open_channel`.

    Each event id must be there once only: aiormq tells returned messages apart by it.
    Raises ChannelInvalidStateError if the channel was closed before.
    """
    if channel.is_closed:
        raise ChannelInvalidStateError("the channel was closed")
    tasks = {asyncio.create_task(_publish(channel, row, user)): row.id for row in rows}
    outcome = Outcome()
    try:
        done, late = await asyncio.wait(tasks, timeout=within)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        _sort(outcome, tasks[task], task)
    if late:
        outcome.is_stalled = True
        # If others were confirmed, the broker works and the queues of these do not.
        if outcome.confirmed:
            outcome.problems |= {tasks[task]: _not_within(within) for task in late}
    elif len(outcome.confirmed) + len(outcome.problems) < len(rows):
        outcome.is_broken = True
    return outcome


async def publish_one_by_one(
    connection: AbstractConnection, rows: Sequence[AnyRow], user: str, within: float
) -> Outcome:
    """Publish rows each alone on its channel, so that the one that closes it is known.

    After `within` seconds no other is begun: whoever claimed them must not keep them for long.
    """
    outcome, began = Outcome(), monotonic()
    for row in rows:
        if monotonic() - began > within:
            return outcome
        channel = await open_channel(connection, within)
        task = asyncio.create_task(_publish(channel, row, user))
        try:
            done, _ = await asyncio.wait([task], timeout=within)
        finally:
            task.cancel()
        if not done:
            outcome.is_stalled = True
            outcome.problems[row.id] = _not_within(within)
            return outcome
        _sort(outcome, row.id, task)
        if row.id not in {*outcome.confirmed, *outcome.problems}:
            # It was alone: it closed the channel. Or the connection, which then goes on without it.
            error = None if task.cancelled() else task.exception()
            outcome.problems[row.id] = str(error or "the connection was closed")
        if connection.is_closed:
            return outcome
        if not channel.is_closed:
            await channel.close()
    return outcome


def _sort(outcome: Outcome, row_id: int, task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        outcome.confirmed.append(row_id)
    elif isinstance(error, DeliveryError) or not isinstance(error, _CHANNEL_LOST):
        outcome.problems[row_id] = str(error) or type(error).__name__


async def open_channel(connection: AbstractConnection, within: float) -> AbstractChannel:
    """A channel to publish on. Raises AMQPError, OSError or TimeoutError."""
    # `mandatory` alone does nothing: without on_return_raises a returned message counts as sent.
    channel = connection.channel(publisher_confirms=True, on_return_raises=True)
    try:
        async with asyncio.timeout(within):
            await channel.initialize()
    except RuntimeError as closed:
        # aiormq's word for a closed connection.
        raise AMQPConnectionError(str(closed)) from closed
    return channel


async def _publish(channel: AbstractChannel, row: AnyRow, user: str) -> None:
    # aiormq's own call: aio-pika's, which waits for the socket each time, takes a fifth more.
    underlay = cast("Channel", await channel.get_underlay_channel())
    properties = Basic.Properties(
        content_type="application/json",
        headers=row.headers or None,
        delivery_mode=DeliveryMode.PERSISTENT,
        correlation_id=row.correlation_id,
        message_id=row.event_id,
        timestamp=row.created_at,
        message_type=row.type,
        user_id=user,
        app_id=user,
    )
    await underlay.basic_publish(
        row.body,
        exchange=row.exchange,
        routing_key=row.routing_key,
        properties=properties,
        mandatory=row.mandatory,
        wait=False,
    )
    crashpoint("relay.confirmed", user)


def _not_within(seconds: float) -> str:
    return f"RabbitMQ did not confirm it within {seconds:g} s"
