"""Waiting with an end."""

import asyncio


async def is_set(event: asyncio.Event, within: float) -> bool:
    """Wait for an event for so many seconds at most; whether it is set."""
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False
