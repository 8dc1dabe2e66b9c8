"""Hears what other replicas and the handlers say, by PostgreSQL's LISTEN and NOTIFY.

Invariant: a word only hastens what the supervisor would find by itself at its next turn, so that
one that is lost costs seconds and nothing else.
"""

import asyncio
from collections.abc import Callable

import asyncpg
import structlog
from pydantic_core import Url
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger("mailroom.fetcher")

CHANNEL = "mailroom_fetcher"
LEASES = "leases"
"""Some replica let go of accounts."""
DIRECTORY = "directory"
"""The directory's accounts changed."""
FETCH = "fetch"
"""Some accounts are to be fetched at once."""
_CHECK_EVERY = 10.0
_PAUSE = 2.0


async def say(tx: AsyncConnection, word: str) -> None:
    """Tell all replicas when `tx` commits."""
    await tx.execute(select(func.pg_notify(CHANNEL, word)))


async def listen(url: Url, heard: Callable[[str], None]) -> None:
    """Call `heard` with each word, for ever; while PostgreSQL is away, nothing is heard.

    On a connection of its own: a transaction pooler would swallow LISTEN silently.
    """
    while True:
        try:
            await _listen_once(url, heard)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
            log.warning("listening_interrupted", problem=str(away) or type(away).__name__)
        await asyncio.sleep(_PAUSE)


async def _listen_once(url: Url, heard: Callable[[str], None]) -> None:
    connection = await asyncpg.connect(str(url), timeout=10)
    try:
        await connection.add_listener(CHANNEL, lambda *message: heard(message[3]))
        heard(LEASES)  # and whatever was said meanwhile
        heard(DIRECTORY)
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            await connection.execute("SELECT 1", timeout=_CHECK_EVERY)
    finally:
        connection.terminate()
