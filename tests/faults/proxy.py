"""A TCP proxy that does to a connection what networks and servers do to one: for any protocol.

Invariant: it works on a thread of its own, also while a test blocks. A fault holds for the
connections that are open and for those that come, until the proxy is healed; what passes otherwise
passes unchanged and in order.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Side = Literal["client", "server"]

_PIECE = 65536
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class _Trap:
    """Springs once: when so many bytes, or this pattern, have come from one side."""

    after: int | bytes
    of: Side
    springs: Callable[["_Connection"], None]
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Connection:
    """One client's, with what has passed: `seen` keeps as much as a pattern may be long."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    passed: dict[Side, int] = field(default_factory=lambda: {"client": 0, "server": 0})
    seen: dict[Side, bytes] = field(default_factory=lambda: {"client": b"", "server": b""})
    answers_lost: bool = False

    def reset(self) -> None:
        """RST to both ends; what was under way is lost."""
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    def lose_answers(self) -> None:
        """From now on, the server speaks to nobody."""
        self.answers_lost = True


class Proxy:
    """Listens on 127.0.0.1:`port` for a server. Made by `proxied`."""

    def __init__(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._to = (host, port)
        self._loop = loop
        self._listening: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._delay = 0.0
        self._rate = 0.0
        self._trap: _Trap | None = None
        self.port = 0

    # What a test does to it; each holds when the call returns.

    def heal(self) -> None:
        """No fault any more: new connections come through, and what was held back goes on."""
        self._do(self._heal())

    def reset(self) -> None:
        """End every open connection by RST, once; new ones come through."""
        self._do(self._reset())

    def refuse(self) -> None:
        """End every open connection by RST, and refuse new ones, as a host without the server."""
        self._do(self._refuse())

    def blackhole(self) -> None:
        """Let nothing through, either way, and say nothing: as a pulled cable."""
        self._do(self._blackhole())

    def delay(self, seconds: float) -> None:
        """Let each piece wait."""
        self._do(self._slow(seconds, 0))

    def rate(self, bytes_a_second: float) -> None:
        """Let no more through, on each connection and each way."""
        self._do(self._slow(0, bytes_a_second))

    def cut_after(self, what: int | bytes, of: Side) -> threading.Event:
        """Reset the first connection on which so many bytes, or this pattern, came from one side.

        What comes up to there is passed on. The answer is set when it has happened.
        """
        return self._set(_Trap(what, of, _Connection.reset))

    def swallow_answer(self, after: bytes) -> threading.Event:
        """On the first connection whose client says this, whatever the server says then is lost."""
        return self._set(_Trap(after, "client", _Connection.lose_answers))

    @property
    def open_connections(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def _set(self, trap: _Trap) -> threading.Event:
        async def arm() -> None:
            self._trap = trap

        self._do(arm())
        return trap.sprung

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    # On the proxy's own thread.

    async def _heal(self) -> None:
        self._delay, self._rate, self._trap = 0.0, 0.0, None
        self._flows.set()
        if self._listening is None:
            self._listening = await asyncio.start_server(self._take, "127.0.0.1", self.port)
            self.port = self._listening.sockets[0].getsockname()[1]

    async def _reset(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _refuse(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await self._reset()

    async def _blackhole(self) -> None:
        self._flows.clear()

    async def _slow(self, delay: float, rate: float) -> None:
        self._delay, self._rate = delay, rate

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        try:
            from_server, to_server = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, to_server)
        self._connections.add(connection)
        pipes = [
            asyncio.create_task(self._pipe(connection, "client", reader, to_server)),
            asyncio.create_task(self._pipe(connection, "server", from_server, writer)),
        ]
        self._pipes.update(pipes)
        await asyncio.wait(pipes)
        self._pipes.difference_update(pipes)
        self._connections.discard(connection)

    async def _pipe(
        self,
        connection: _Connection,
        side: Side,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                await self._flows.wait()
                if wait := self._delay or (len(piece) / self._rate if self._rate else 0):
                    await asyncio.sleep(wait)
                if not (side == "server" and connection.answers_lost):
                    await self._pass(connection, side, piece, sink)
            await self._flows.wait()
        with suppress(OSError):
            sink.close()

    async def _pass(
        self, connection: _Connection, side: Side, piece: bytes, sink: asyncio.StreamWriter
    ) -> None:
        trap = self._trap if self._trap and self._trap.of == side else None
        end = _sprung_at(trap, connection, side, piece) if trap else None
        connection.passed[side] += len(piece)
        connection.seen[side] = (connection.seen[side] + piece)[-_PIECE:]
        sink.write(piece if end is None else piece[:end])
        await sink.drain()
        if trap is None or end is None:
            return
        self._trap = None
        trap.springs(connection)
        if not connection.answers_lost:
            trap.sprung.set()
            return
        sink.write(piece[end:])
        await sink.drain()
        trap.sprung.set()


def _sprung_at(trap: _Trap, connection: _Connection, side: Side, piece: bytes) -> int | None:
    """Where in the piece the trap springs; None: not in this one."""
    if isinstance(trap.after, int):
        left = trap.after - connection.passed[side]
        return max(left, 0) if left <= len(piece) else None
    before = connection.seen[side][-(len(trap.after) - 1) :] if len(trap.after) > 1 else b""
    found = (before + piece).find(trap.after)
    return None if found < 0 else found + len(trap.after) - len(before)


@contextmanager
def proxied(host: str, *ports: int) -> Iterator[list[Proxy]]:
    """A healthy proxy for each port of a host, all on one thread that ends at the exit."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    proxies = [Proxy(host, port, loop) for port in ports]
    try:
        for proxy in proxies:
            proxy.heal()
        yield proxies
    finally:
        for proxy in proxies:
            proxy.refuse()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
