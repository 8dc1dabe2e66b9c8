"""Hears at once that something is due, by PostgreSQL's LISTEN and NOTIFY.

Invariant: a word only hastens what the next look would find by itself, so that a lost one costs
`poll_seconds` and nothing else.
"""

import asyncio

import asyncpg
import structlog
from pydantic_core import Url
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger("mailroom.sender.waking")

CHANNEL = "mailroom_sender_due"
_WORD = select(func.pg_notify(CHANNEL, ""))
_CHECK_EVERY = 10.0
_PAUSE = 2.0


async def wake(tx: AsyncConnection) -> None:
    """Tell all replicas, when `tx` commits, that something is due."""
    await tx.execute(_WORD)


async def listen(url: Url, heard: asyncio.Event) -> None:
    """Set `heard` at each word, for ever. While PostgreSQL is away nothing is heard.

    On a connection of its own: a transaction pooler would swallow LISTEN silently.
    """
    while True:
        try:
            await _listen_once(url, heard)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
            log.info("listening_interrupted", problem=str(away) or type(away).__name__)
        await asyncio.sleep(_PAUSE)


async def _listen_once(url: Url, heard: asyncio.Event) -> None:
    connection = await asyncpg.connect(str(url), timeout=10)
    try:
        await connection.add_listener(CHANNEL, lambda *_: heard.set())
        heard.set()  # what was said meanwhile
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            await connection.execute("SELECT 1", timeout=_CHECK_EVERY)
    finally:
        connection.terminate()
