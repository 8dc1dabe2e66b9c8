"""A server that says what a test wants: what no good mail server says."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

GREETING = b"* OK ready\r\n"
_ANSWERS: dict[bytes, bytes] = {
    b"CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\nTAG OK done\r\n",
    b"LOGIN": b"TAG OK done\r\n",
    b"EXAMINE": b"* 1 EXISTS\r\n* OK [UIDVALIDITY 1] fine\r\n* OK [UIDNEXT 2]\r\nTAG OK done\r\n",
    b"LOGOUT": b"* BYE\r\nTAG OK done\r\n",
}


@dataclass
class Scripted:
    """Where it listens, and what it was told."""

    port: int = 0
    lines: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def scripted(
    answers: Mapping[bytes, bytes] | None = None,
    greeting: bytes = GREETING,
    host: str = "127.0.0.1",
) -> AsyncIterator[Scripted]:
    """Greet, and answer each command by its name (`UID FETCH` by FETCH); TAG is its tag.

    A command without an answer gets none.
    """
    known = _ANSWERS | dict(answers or {})
    server = Scripted()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            server.lines.append(line.rstrip())
            tag, _, command = line.rstrip().partition(b" ")
            name = command.removeprefix(b"UID ").partition(b" ")[0]
            writer.write(known.get(name, b"").replace(b"TAG", tag))
        writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
