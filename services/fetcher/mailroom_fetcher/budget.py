"""How many bytes of bodies all accounts of a process hold in memory together.

Invariant: no more than the limit, but for one batch that is larger than it by itself. A waiting
account is served in the order in which it came.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """A semaphore that counts bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free (or all, if it is more), and take them."""
        size = min(size, self.limit)
        await self._take(size)
        try:
            yield
        finally:
            self._give(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self.left:
            self.left -= size
            return
        entry = (size, asyncio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._give(0)
            else:
                self._give(size)
            raise

    def _give(self, size: int) -> None:
        self.left += size
        while self._waiting and self._waiting[0][0] <= self.left:
            wanted, event = self._waiting.popleft()
            self.left -= wanted
            event.set()
