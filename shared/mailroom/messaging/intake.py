"""Takes messages of one queue from RabbitMQ in batches, and acknowledges what has been settled.

Invariant: one loop owns the channel, and an acknowledgement covers only messages that it has
settled. Whatever else was delivered is given back when the consumer ends, for whatever reason.

What comes again is taken one at a time, until something new comes: what ends the process or its
connection again and again is then alone in hand, and its neighbours do not come to the delivery
limit with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustQueue
from aio_pika.exceptions import AMQPError

from mailroom.crashpoints import crashpoint
from mailroom.messaging.stopping import end_if_cancelled, is_cancelled, to_its_end

log = structlog.get_logger("mailroom.messaging")

Messages = Sequence[AbstractIncomingMessage]
Settle = Callable[[Messages], Awaitable[None]]
"""Commits all that the messages cause. If it raises, they go back to their queue, all of them."""

_ANSWER_WITHIN = 10.0
_LAST_ANSWER_WITHIN = 2.0
"""Seconds, when the service stops: the end of the connection gives everything back as well."""
_READY_WITHIN = 3.0
_LOST_PAUSE = 0.5
# aiormq says of a closed connection RuntimeError.
_LOST = (AMQPError, RuntimeError, OSError, TimeoutError)


class _NotSettled(Exception):
    """What `settle` raised, told apart from what the channel raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


async def consume_for_ever(queue: AbstractRobustQueue, size: int, settle: Settle) -> None:
    """Settle what comes to `queue`, at most `size` messages at a time, until cancelled.

    A lost channel or connection is waited out and consumed from again. Raises what `settle` raises,
    with nothing left in hand. Cancelled, it ends when the batch in hand is settled and
    acknowledged, or after FINISH_WITHIN seconds, when it is given back.
    """
    while True:
        try:
            await _until_ready(cast("AbstractRobustChannel", queue.channel))
            if await _consume(queue, 1, settle, until_new=True):
                await _consume(queue, size, settle)
        except _NotSettled as failed:
            raise failed.error from None
        except _LOST as lost:
            log.info("channel_lost", queue=queue.name, problem=str(lost) or type(lost).__name__)
        except asyncio.CancelledError:
            # Or aiormq's word for a closed channel.
            if is_cancelled():
                raise
        await asyncio.sleep(_LOST_PAUSE)


async def _consume(
    queue: AbstractRobustQueue, size: int, settle: Settle, *, until_new: bool = False
) -> bool:
    """One consumer's life: true after the first message that was not redelivered, if asked to end
    there; false when its channel is lost."""
    arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def lost(*_: object) -> None:
        arrived.put_nowait(None)

    prefetch = size if until_new else 2 * size
    async with asyncio.timeout(_ANSWER_WITHIN):
        await queue.channel.set_qos(prefetch)
    underlay = await queue.channel.get_underlay_channel()
    queue.channel.close_callbacks.add(lost)
    underlay.on_consumer_cancel_callbacks.add(lost)
    try:
        # Not robust: aio-pika would consume again by itself, with messages of two lives in hand.
        async with asyncio.timeout(_ANSWER_WITHIN):
            tag = await queue.consume(arrived.put, robust=False)
        last_tag = 0
        try:
            while True:
                end_if_cancelled()
                batch = await _take(arrived, size)
                if batch is None:
                    return False
                crashpoint("intake.taken", queue.name)
                last_tag = await to_its_end(_settle(batch, last_tag, settle))
                if until_new and not batch[-1].redelivered:
                    return True
        finally:
            await _give_back(queue, tag)
    finally:
        queue.channel.close_callbacks.discard(lost)
        underlay.on_consumer_cancel_callbacks.discard(lost)


async def _until_ready(channel: AbstractRobustChannel) -> None:
    """aio-pika opens a channel again with its connection, but not after its queue was missing."""
    try:
        async with asyncio.timeout(_READY_WITHIN):
            await channel.ready()
    except TimeoutError:
        await channel.restore()


async def _take(
    arrived: "asyncio.Queue[AbstractIncomingMessage | None]", size: int
) -> list[AbstractIncomingMessage] | None:
    """What has arrived, at least one and at most `size`, without a timer; null: it was the last."""
    first = await arrived.get()
    if first is None:
        return None
    batch = [first]
    while len(batch) < size and not arrived.empty():
        message = arrived.get_nowait()
        if message is None:
            return None
        batch.append(message)
    return batch


async def _settle(batch: Messages, last_tag: int, settle: Settle) -> int:
    """Settle and acknowledge. Returns the last delivery tag."""
    try:
        await settle(batch)
    except Exception as error:
        raise _NotSettled(error) from error
    tags = [message.delivery_tag or 0 for message in batch]
    first = last_tag + 1 if last_tag else tags[0]
    try:
        channel = batch[-1].channel
        if tags == list(range(first, first + len(tags))):
            await channel.basic_ack(tags[-1], multiple=True, wait=False)
        else:
            for tag in tags:
                await channel.basic_ack(tag, wait=False)
    except _LOST as lost:
        # They come again, and the consumed ids tell.
        log.info("ack_lost", events=len(batch), problem=str(lost) or type(lost).__name__)
    return tags[-1]


async def _give_back(queue: AbstractRobustQueue, tag: str) -> None:
    """End the consumer and return all that is unacknowledged, also what nobody has taken yet.

    Delivery tag 0 with multiple means all of the channel (AMQP 0-9-1, basic.nack in RabbitMQ).
    """
    if queue.channel.is_closed:
        return
    try:
        async with asyncio.timeout(_LAST_ANSWER_WITHIN if is_cancelled() else _ANSWER_WITHIN):
            await queue.cancel(tag)
            channel = await queue.channel.get_underlay_channel()
            await channel.basic_nack(0, multiple=True, requeue=True, wait=False)
    except _LOST as lost:
        # A closed channel has given back everything.
        log.info("channel_lost", queue=queue.name, problem=str(lost) or type(lost).__name__)
