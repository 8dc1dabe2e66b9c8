"""Whether PostgreSQL is there: connections that say so, and waiting until it can be written again.

Invariant: what fails for want of a connection raises DatabaseAway, whatever the driver raised.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailroom import clock
from mailroom.messaging.failures import DatabaseAway, describe
from mailroom.messaging.tables import MessagingTables

log = structlog.get_logger("mailroom.messaging")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 3.0
"""Seconds: whoever waits for PostgreSQL goes on soon after its return."""


@asynccontextmanager
async def begin(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end. Raises DatabaseAway if there is no connection."""
    connection = engine.connect()
    try:
        await connection.start()
    except Exception as error:
        # The driver raises OSError, TimeoutError, its own errors and SQLAlchemy's, all for this.
        raise DatabaseAway(describe(error)) from error
    try:
        async with connection.begin():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def recording(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """As `begin`, for what becomes of a failed event: any failure raises DatabaseAway.

    What could not be written down must not be acknowledged, so its message goes back.
    """
    try:
        async with begin(engine) as tx:
            yield tx
    except Exception as error:
        raise DatabaseAway(describe(error)) from error


async def until_writable(engine: AsyncEngine, tables: MessagingTables) -> None:
    """Return when PostgreSQL takes a row again: not a standby, and with room on its disk."""
    pause = FIRST_PAUSE
    while True:
        await asyncio.sleep(pause)
        try:
            await _try_to_write(engine, tables)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is not there yet
            problem = describe(error)
            log.warning("database_away", schema=tables.schema, problem=problem, again=pause)
        else:
            return
        pause = min(pause * 2, LONGEST_PAUSE)


async def _try_to_write(engine: AsyncEngine, tables: MessagingTables) -> None:
    async with engine.connect() as connection:
        row = {"queue": "", "publisher": "", "event_id": "", "consumed_at": clock.now()}
        await connection.execute(insert(tables.consumed), row)
        await connection.rollback()
