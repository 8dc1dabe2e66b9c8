"""A man in the middle between an IMAP client and Dovecot, on plain text, who does as a test says.

It shows what a good server never does: refuse a single mail, break on it, fall silent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum


class Deed(Enum):
    """What to do with a client's line, beside forwarding (None) and answering it (bytes)."""

    CUT = "close both connections"
    SWALLOW = "say nothing, and pass nothing on"


@dataclass(frozen=True)
class Instead:
    """Tell the server this line (without CRLF) instead."""

    line: bytes


Rule = Callable[[bytes], "bytes | Deed | Instead | None"]
"""From a client's line (without CRLF) to what is done with it. In an answer, TAG is its tag."""


def forward(_: bytes) -> None:
    """Do nothing but pass on."""


@dataclass
class Between:
    """The man in the middle. Change `rule` at any time."""

    port: int = 0
    rule: Rule = forward
    silent: bool = False
    """Pass nothing on in either direction, and keep the connections open."""
    lines: list[bytes] = field(default_factory=list)
    """All that clients said."""
    accepted: int = 0
    streams: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Close all connections."""
        for writer in self.streams:
            writer.transport.abort()
        self.streams.clear()


@asynccontextmanager
async def between(host: str, port: int) -> AsyncIterator[Between]:
    """Listen on a free loopback port, and lead to `host`:`port`."""
    middle = Between()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        middle.accepted += 1
        behind_reader, behind_writer = await asyncio.open_connection(host, port, limit=2**26)
        middle.streams += [writer, behind_writer]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_to_client(middle, behind_reader, writer))
                group.create_task(_to_server(middle, reader, writer, behind_writer))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            behind_writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**26)
    middle.port = server.sockets[0].getsockname()[1]
    try:
        yield middle
    finally:
        server.close()
        middle.cut()
        # What was aborted is told that its connection is lost in the loop's next turn.
        await asyncio.sleep(0)


async def _to_client(
    middle: Between, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data := await reader.read(2**16):
        if not middle.silent:
            writer.write(data)
            await writer.drain()
    raise ConnectionResetError


async def _to_server(
    middle: Between,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    behind: asyncio.StreamWriter,
) -> None:
    while line := await reader.readline():
        text = line.rstrip(b"\r\n")
        middle.lines.append(text)
        deed = None if middle.silent else middle.rule(text)
        if isinstance(deed, bytes):
            writer.write(deed.replace(b"TAG", text.split(b" ")[0]))
        elif isinstance(deed, Instead):
            behind.write(deed.line + b"\r\n")
        elif deed is Deed.CUT:
            writer.transport.abort()
        elif deed is None and not middle.silent:
            behind.write(line)
    raise ConnectionResetError
