"""Hears what others say, by PostgreSQL's LISTEN and NOTIFY.

Invariant: a word only hastens what somebody would find by himself at his next look. A lost one, or
a connection that is lost without a word, costs seconds and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog
from pydantic_core import Url

from mailroom import database, waiting
from mailroom.messaging.failures import describe
from mailroom.messaging.stopping import end_if_cancelled

log = structlog.get_logger("mailroom.notifications")

CHECK_EVERY = 10.0
"""Seconds from one sign of life to the next, and that PostgreSQL has to answer it."""
_PAUSE = 1.0
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Of a statement after the server's last word, and before the line is closed.
    asyncpg.InternalClientError,
)


async def listen(
    url: Url,
    application: str,
    channel: str,
    heard: Callable[[str], None],
    begun: Callable[[], None],
) -> None:
    """Call `heard` with each word that is said on the channel, for ever.

    While PostgreSQL is away nothing is heard: `begun` is called when listening begins, each time,
    for whatever was said meanwhile. On a connection of its own: a transaction pooler would swallow
    LISTEN silently. `application` is shown in pg_stat_activity.
    """
    while True:
        end_if_cancelled()
        try:
            async with _connected(url, application) as (connection, gone):
                await connection.add_listener(channel, lambda *message: heard(message[3]))
                begun()
                while not await waiting.is_set(gone, within=CHECK_EVERY):
                    await connection.execute("SELECT 1", timeout=CHECK_EVERY)
        except _AWAY as away:
            log.info("listening_interrupted", application=application, problem=describe(away))
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def _connected(
    url: Url, application: str
) -> AsyncIterator[tuple[asyncpg.Connection, asyncio.Event]]:
    """A connection, and what is set when it is lost."""
    connection, gone = await database.connect(url, application), asyncio.Event()
    connection.add_termination_listener(lambda *_: gone.set())
    try:
        yield connection, gone
    finally:
        connection.terminate()
