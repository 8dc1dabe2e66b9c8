"""Connections to PostgreSQL.

Invariant: a connection whose server cannot write is dropped, not pooled. After a failover
SQLAlchemy takes a read-only server for a healthy one (`SELECT 1` passes on a standby), and would
stay there for days. And a process that stands still, or whose machine is gone, keeps no lock:
PostgreSQL, which by default would wait for it for ever, ends its transaction.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pydantic_core import Url
from sqlalchemy import Text, bindparam, event, func, make_url, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from mailroom import waiting

GONE = frozenset(
    {
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "25006",  # read_only_sql_transaction: a standby after a failover
    }
)
"""SQLSTATEs after which a connection is of no more use (PostgreSQL manual, appendix A).

And of no event's own fault: the batch goes back, see mailroom.messaging.failures."""

DEAD_LINE = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,
}
"""A connection is given up half a minute after its server's machine was last heard (tcp(7))."""

GONE_MACHINE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
"""As the server sees it: our transactions end half a minute after our machine was last heard.

By default, after more than two hours."""

CONNECT_WITHIN = 10.0
"""Seconds."""

IDLE = "idle_in_transaction_session_timeout"
IDLE_WITHIN = 15.0
"""Seconds that a transaction may wait for its process, where nothing else is said."""
LIFE_EVERY = 5.0


def engine(
    url: Url, application: str, *, connections: int = 10, idle_within: float = IDLE_WITHIN
) -> AsyncEngine:
    """An engine for `postgresql://…`, by asyncpg, with at most `connections` at once.

    `application` is shown in pg_stat_activity. Nothing is connected yet. PostgreSQL ends a
    transaction whose process has said nothing for `idle_within` seconds.
    """
    server_settings = {
        "application_name": application,
        # A database may have been given others: who waits for a lock then sees what was there
        # before, and what was committed and acknowledged may be gone after a crash.
        "default_transaction_isolation": "read committed",
        "synchronous_commit": "on",
        # By default a plan that was made while a table was empty is kept until somebody analyzes
        # it: a hundred look-ups by key then read the whole of a large table a hundred times.
        "plan_cache_mode": "force_custom_plan",
        # By default never: a process that is frozen, or whose machine is gone, keeps its locks.
        IDLE: _milliseconds(idle_within),
        **GONE_MACHINE,
    }
    made = create_async_engine(
        make_url(str(url)).set(drivername="postgresql+asyncpg"),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        # By default in turn: all that were ever open would come to keep a hundred statements each.
        pool_use_lifo=True,
        # By default an error's text, and so the log, has the statement's values: a mail's words.
        hide_parameters=True,
        connect_args={"timeout": CONNECT_WITHIN, "server_settings": server_settings},
    )
    event.listen(made.sync_engine, "handle_error", _drop_what_cannot_write)
    event.listen(made.sync_engine, "connect", _notice_a_dead_line)
    return made


async def connect(url: Url, application: str) -> asyncpg.Connection:
    """A connection without a pool and without SQLAlchemy: to listen on.

    Raises OSError, TimeoutError, PostgresError or InterfaceError if there is none.
    """
    settings = {"application_name": application, **GONE_MACHINE}
    made = await asyncpg.connect(str(url), timeout=CONNECT_WITHIN, server_settings=settings)
    _give_up_a_dead_line(made)
    return made


_MAY_IDLE = select(func.set_config(IDLE, bindparam("given", type_=Text), True))  # noqa: FBT003


async def may_idle(tx: AsyncConnection, seconds: float) -> None:
    """Let this transaction wait for its process for longer than others may."""
    await tx.execute(_MAY_IDLE, {"given": _milliseconds(seconds)})


_STANDING_STILL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user"
    " AND state = 'active' AND wait_event = 'ClientRead'"
    " AND state_change < clock_timestamp() - make_interval(secs => :within)"
)


async def end_who_stands_still(tx: AsyncConnection, within: float = IDLE_WITHIN) -> int:
    """End the sessions of our role that prepared a statement and did not execute it; how many.

    asyncpg prepares without a Sync, and behind that PostgreSQL counts no session as idle: a process
    frozen there for longer than `within` seconds would keep its locks for ever.
    """
    return await tx.scalar(text(_STANDING_STILL), {"within": within}) or 0


@asynccontextmanager
async def showing_life(tx: AsyncConnection, every: float = LIFE_EVERY) -> AsyncIterator[None]:
    """Let this transaction wait for its process for any time, as long as its event loop turns.

    PostgreSQL hears of it every so many seconds, between the statements of whoever works inside.
    """
    connection: Any = await tx.get_raw_connection()
    # asyncpg refuses two statements at once: this is the lock by which SQLAlchemy keeps them apart.
    one_at_a_time = connection.dbapi_connection._execute_mutex  # noqa: SLF001
    ended = asyncio.Event()

    async def show() -> None:
        while not await waiting.is_set(ended, within=every):
            async with one_at_a_time:
                await connection.driver_connection.execute("SELECT 1")

    # Not cancelled at the end: that would cancel a statement, perhaps the next one.
    task = asyncio.create_task(show())
    try:
        yield
    finally:
        ended.set()
        # What was wrong with the connection, whoever works on it hears for himself.
        await asyncio.gather(task, return_exceptions=True)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _drop_what_cannot_write(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "sqlstate", None) in GONE:
        context.is_disconnect = True


def _notice_a_dead_line(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    _give_up_a_dead_line(connection.driver_connection)


def _give_up_a_dead_line(connection: Any) -> None:
    # asyncpg leaves it at the system's: a query under way when the server's machine, or the line to
    # it, is gone would wait for a quarter of an hour, or for two hours.
    line = connection._transport.get_extra_info("socket")  # noqa: SLF001
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in DEAD_LINE.items():
        line.setsockopt(socket.IPPROTO_TCP, option, value)


def schema_of(service: str) -> str:
    """The schema of a service: its name with dashes as underscores."""
    return service.replace("-", "_")
