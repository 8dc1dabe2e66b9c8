"""How loops end: a cancellation waits for what is in hand, and none is lost.

Invariant: a loop looks for its cancellation itself before it waits. aiormq ends the pending calls
of a closed channel with CancelledError though nobody cancelled, and `asyncio.wait_for`, which the
libraries use, swallows a cancellation that comes together with its result (Python before 3.12).
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from aio_pika.abc import AbstractConnection

T = TypeVar("T")

FINISH_WITHIN = 5.0
"""Seconds that what is in hand has to end once its loop is cancelled."""
LEAVE_WITHIN = 1.0
"""Seconds that RabbitMQ has to answer to a goodbye."""
_LAST_WORD_WITHIN = 1.5
"""Seconds that what is cut short has to write down how far it came."""


def is_cancelled() -> bool:
    """Whether somebody has cancelled this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def end_if_cancelled() -> None:
    """Raise the CancelledError that this task was sent, if it was swallowed."""
    if is_cancelled():
        raise asyncio.CancelledError


async def to_its_end(work: Coroutine[Any, Any, T], within: float = FINISH_WITHIN) -> T:
    """Await `work`. A cancellation meanwhile takes effect after it, or after `within` seconds."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if is_cancelled():
            await asyncio.wait([task], timeout=within)
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=_LAST_WORD_WITHIN)
            await asyncio.gather(task, return_exceptions=True)
        raise


async def leave(connection: AbstractConnection) -> None:
    """Close a connection; if RabbitMQ does not answer, without its answer. Nothing of it goes on.

    aio-pika waits for that answer without a limit, and connects again if it is only cancelled.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_WITHIN):
            await connection.close()
