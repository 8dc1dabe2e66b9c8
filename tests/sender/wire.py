"""The wire between the sender and Postfix, in plain text, on which a test can lay hands.

It does what real lines do at the worst moment: end just before the server's answer, or just after
the mail's last line, or hold the answer back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import cast


class AtEnd(Enum):
    """What happens when the client has sent the last line of a mail, or its recipients."""

    PASS = auto()
    """Nothing: the mail arrives, and so does the answer."""
    CUT_BEFORE = auto()
    """The line breaks before the server has it: the mail does not arrive."""
    CUT_AFTER = auto()
    """The server takes the mail, and the line breaks before the client hears of it."""
    HOLD = auto()
    """The server takes the mail, and its answer waits until `let_go` is set."""
    STALL = auto()
    """The server stops reading when the mail has begun, and `ended` is set."""
    HOLD_RCPT = auto()
    """The answers to RCPT wait until `let_go` is set, and the mail arrives."""


Answer = Callable[[bytes], bytes | None]
"""From a client's command to an answer in place of the server's; None lets the server answer."""


@dataclass
class Wire:
    """Where it listens, what it does, and what went over it."""

    port: int = 0
    at_end: AtEnd = AtEnd.PASS
    answer: Answer = lambda _: None
    deaf: bool = False
    """The next command of an open connection meets a reset."""
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a mail's last line went over, or did not."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    mails: list[bytes] = field(default_factory=list)
    """All that was sent between DATA and the end, as it was on the wire."""
    commands: list[bytes] = field(default_factory=list)
    offered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when RCPT went over."""
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    clients: list[asyncio.StreamReader] = field(default_factory=list)

    def is_open(self) -> bool:
        """Whether a client is connected."""
        return not all(reader.at_eof() or reader.exception() for reader in self.clients)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self.writers):
            writer.transport.abort()


@asynccontextmanager
async def wire(host: str, port: int, listen: int = 0) -> AsyncIterator[Wire]:
    """Listen on a loopback port, and lead to `host`:`port`."""
    made = Wire()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        from_server, to_server = await asyncio.open_connection(host, port, limit=2**26)
        made.writers |= {writer, to_server}
        made.clients.append(reader)
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await _reply(from_server))
            while line := await reader.readuntil(b"\r\n"):
                made.commands.append(line.rstrip())
                if made.deaf:
                    made.deaf = False
                    break
                reply = made.answer(line.rstrip())
                if reply is None:
                    to_server.write(line)
                    reply = await _reply(from_server)
                if line.startswith(b"RCPT"):
                    made.offered.set()
                    if made.at_end is AtEnd.HOLD_RCPT:
                        await made.let_go.wait()
                writer.write(reply)
                if reply.startswith(b"354"):
                    await _data(made, (reader, writer), (from_server, to_server))
        for end in (writer, to_server):
            end.transport.abort()
            made.writers.discard(end)

    server = await asyncio.start_server(serve, "127.0.0.1", listen, limit=2**26)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _data(made: Wire, client: Stream, server: Stream) -> None:
    mail = b""
    if made.at_end is AtEnd.STALL:
        cast("asyncio.ReadTransport", client[1].transport).pause_reading()
        made.ended.set()
        await made.let_go.wait()
    while (line := await client[0].readuntil(b"\r\n")) != b".\r\n":
        mail += line
    made.mails.append(mail)
    server[1].write(mail)
    if made.at_end is AtEnd.CUT_BEFORE:
        made.ended.set()
        raise ConnectionResetError
    server[1].write(line)
    reply = await _reply(server[0])
    made.ended.set()
    if made.at_end is AtEnd.CUT_AFTER:
        raise ConnectionResetError
    if made.at_end is AtEnd.HOLD:
        await made.let_go.wait()
    client[1].write(reply)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """All lines of a reply (RFC 5321 section 4.2.1)."""
    reply = line = await reader.readuntil(b"\r\n")
    while line[3:4] == b"-":
        line = await reader.readuntil(b"\r\n")
        reply += line
    return reply
