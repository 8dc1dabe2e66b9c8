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
from typing import Any

from tests.faults.traps import Moment, Said, Side, Waiting

_PIECE = 65536
_OPENING = 4096
"""Bytes in which a client says who it is: login, role, name of the connection."""
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    """One client's; without `server` as long as it has not been let through."""

    client: asyncio.StreamWriter
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.StreamWriter | None = None
    task: "asyncio.Task[None] | None" = None
    opening: bytes = b""
    waiting: Waiting | None = None
    answers_lost: bool = False
    forgotten: bool = False

    def reset(self) -> None:
        """RST to both ends; what was under way is lost."""
        _abort(self.client)
        if self.server is not None:
            _abort(self.server)
        if self.task is not None:
            self.task.cancel()

    def cut(self, after: Side) -> None:
        """RST to the client; what its side said up to here reaches the server before the end."""
        _abort(self.client)
        if self.server is not None:
            self.server.close() if after == "client" else _abort(self.server)

    def lose_answers(self) -> None:
        """From now on, the server speaks to nobody."""
        self.answers_lost = True


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()


@dataclass
class _Trap:
    """Springs once, on the first connection on which its moment comes."""

    moment: Moment
    whose: bytes
    springs: Callable[[_Connection], None]
    sprung: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on 127.0.0.1:`port` for a server. Made by `proxied`."""

    def __init__(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._to = (host, port)
        self._loop = loop
        self._listening: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._passes = True
        self._delay = 0.0
        self._rate = 0.0
        self._trap: _Trap | None = None
        self.port = 0
        self.taken = 0
        """How many connections there have been."""

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

    def forget(self) -> None:
        """Let nothing more through on what is open, for ever: as a router that lost its table.

        New connections come through. The forgotten ones are reset when the proxy is healed.
        """
        self._do(self._forget())

    def delay(self, seconds: float) -> None:
        """Let each piece wait."""
        self._do(self._slow(seconds, 0))

    def rate(self, bytes_a_second: float) -> None:
        """Let no more through, on each connection and each way."""
        self._do(self._slow(0, bytes_a_second))

    def cut_after(self, *said: Said, then: int = 0, whose: bytes = b"") -> threading.Event:
        """Cut the first connection on which this is said, one after the other, and `then` bytes.

        What comes up to there is passed on, and nothing after it; its client finds it reset. With
        `whose`, it is one whose client says this at first. The answer is set when it has happened.
        """
        moment = Moment(said, then)
        return self._set(_Trap(moment, whose, lambda connection: connection.cut(moment.by)))

    def swallow_answer(self, *after: Said, whose: bytes = b"") -> threading.Event:
        """On the first connection on which this is said, what the server says then is lost."""
        return self._set(_Trap(Moment(after), whose, _Connection.lose_answers))

    @property
    def open_connections(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def _set(self, trap: _Trap) -> threading.Event:
        self._do(self._arm(trap))
        return trap.sprung

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    # On the proxy's own thread.

    async def _heal(self) -> None:
        self._delay, self._rate, self._trap, self._passes = 0.0, 0.0, None, True
        for connection in list(self._connections):
            if connection.forgotten:
                connection.reset()
            connection.flows.set()
        if self._listening is None:
            listening = socket.create_server(("127.0.0.1", self.port), backlog=1000)
            # Left alone, the system takes in a whole film for a server that is slow.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
            self._listening = await asyncio.start_server(self._take, sock=listening)
            self.port = listening.getsockname()[1]

    async def _reset(self) -> None:
        ended = [connection.task for connection in self._connections if connection.task]
        for connection in list(self._connections):
            connection.reset()
        if ended:
            await asyncio.wait(ended)

    async def _refuse(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await self._reset()

    async def _blackhole(self) -> None:
        self._passes = False
        for connection in self._connections:
            connection.flows.clear()

    async def _forget(self) -> None:
        self._passes = True
        for connection in self._connections:
            connection.forgotten = True
            connection.flows.clear()

    async def _slow(self, delay: float, rate: float) -> None:
        self._delay, self._rate = delay, rate

    async def _arm(self, trap: _Trap) -> None:
        self._trap = trap
        for connection in self._connections:
            connection.waiting = Waiting(trap.moment)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        if self._passes:
            connection.flows.set()
        if self._trap is not None:
            connection.waiting = Waiting(self._trap.moment)
        self._connections.add(connection)
        self.taken += 1
        connection.task = asyncio.create_task(self._serve(connection, reader))
        connection.task.add_done_callback(lambda _: self._connections.discard(connection))

    async def _serve(self, connection: _Connection, from_client: asyncio.StreamReader) -> None:
        with suppress(OSError):
            await connection.flows.wait()
            from_server, connection.server = await asyncio.open_connection(*self._to)
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(self._pipe(connection, "client", from_client, connection.server))
                pipes.create_task(self._pipe(connection, "server", from_server, connection.client))
        if connection.server is None:
            _abort(connection.client)

    async def _pipe(
        self,
        connection: _Connection,
        side: Side,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                await connection.flows.wait()
                if wait := self._delay or (len(piece) / self._rate if self._rate else 0):
                    await asyncio.sleep(wait)
                if side == "client":
                    connection.opening += piece[: _OPENING - len(connection.opening)]
                await self._pass(connection, side, piece, sink)
            await connection.flows.wait()
        with suppress(OSError):
            sink.close()

    async def _pass(
        self, connection: _Connection, side: Side, piece: bytes, sink: asyncio.StreamWriter
    ) -> None:
        if side == "server" and connection.answers_lost:
            return
        trap, at = self._trap, None
        if trap is not None and connection.waiting and trap.whose in connection.opening:
            at = connection.waiting.comes_at(side, piece)
        if trap is None or at is None:
            sink.write(piece)
            await sink.drain()
            return
        self._trap = None
        sink.write(piece[:at])
        await sink.drain()
        trap.springs(connection)
        if connection.answers_lost and side == "client":
            sink.write(piece[at:])
            await sink.drain()
        trap.sprung.set()


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
