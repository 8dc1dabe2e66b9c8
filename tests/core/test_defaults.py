"""What SQLAlchemy, asyncpg, PostgreSQL and Alembic do if nobody says otherwise, and that we do.

docs/decisions/defaults-we-override.md lists all of them.
"""

import asyncpg
import pytest
from alembic.migration import MigrationContext
from pydantic_core import Url
from sqlalchemy import Connection, column, make_url, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mailroom.database import engine
from tests.installation import OWNER, Database, service_names


@pytest.mark.parametrize(
    ("setting", "others", "ours"),
    [
        ("transaction_isolation", "repeatable read", "read committed"),
        ("synchronous_commit", "off", "on"),
    ],
)
async def test_locks_and_commits_hold_what_they_promise_whatever_the_database_was_given(
    database: Database, setting: str, others: str, ours: str
) -> None:
    """Default overridden: a connection has the settings of its database. In another isolation, who
    waited for a lock would decide by what was there before, and open a second ticket; with commits
    that do not wait for the disk, an acknowledged event would be gone after a crash."""
    name = "default_transaction_isolation" if "isolation" in setting else setting
    superuser = await asyncpg.connect(database.superuser_url)
    await superuser.execute(f"ALTER DATABASE {database.name} SET {name} = '{others}'")
    await superuser.close()
    url = make_url(database.url(OWNER)).set(drivername="postgresql+asyncpg")
    seen = []
    for connections in (create_async_engine(url), engine(Url(database.url(OWNER)), "test")):
        async with connections.connect() as tx:
            seen.append(await tx.scalar(text(f"SHOW {setting}")))
        await connections.dispose()
    assert seen == [others, ours]


async def test_a_statement_is_planned_for_what_is_there_when_it_runs(database: Database) -> None:
    """Default overridden: PostgreSQL keeps a plan that it made while a table was empty, as all are
    after an install, and reads the whole of it for each look-up until somebody analyzes it."""
    url = make_url(database.url(OWNER)).set(drivername="postgresql+asyncpg")
    modes = []
    for connections in (create_async_engine(url), engine(Url(database.url(OWNER)), "test")):
        async with connections.connect() as tx:
            modes.append(await tx.scalar(text("SHOW plan_cache_mode")))
        await connections.dispose()
    assert modes == ["auto", "force_custom_plan"]


async def test_no_service_takes_more_connections_than_it_was_given(database: Database) -> None:
    """Default overridden: SQLAlchemy opens ten more than the pool's size, and a few services with
    their replicas take the last that PostgreSQL has."""
    ours = engine(Url(database.url(OWNER)), "test", connections=3)
    by_default = create_async_engine("postgresql+asyncpg://", pool_size=3)
    most = [each.pool.size() + each.pool._max_overflow for each in (by_default, ours)]  # type: ignore[attr-defined]
    await ours.dispose()
    assert most == [13, 3]


async def test_as_few_connections_work_as_there_is_work_for(database: Database) -> None:
    """Default overridden: SQLAlchemy hands connections out in turn. Each that was open once would
    prepare all statements for itself, and a service's memory grow for days."""
    url = make_url(database.url(OWNER)).set(drivername="postgresql+asyncpg")
    workers = []
    by_default = create_async_engine(url, pool_size=5)
    for connections in (by_default, engine(Url(database.url(OWNER)), "test", connections=5)):
        opened = [await connections.connect() for _ in range(5)]
        for each in opened:
            await each.close()
        worked = {await _backend(connections) for _ in range(20)}
        workers.append(len(worked))
        await connections.dispose()
    assert workers == [5, 1]


async def _backend(connections: AsyncEngine) -> int:
    async with connections.connect() as tx:
        return int(await tx.scalar(text("SELECT pg_backend_pid()")) or 0)


async def test_a_column_added_meanwhile_disturbs_no_statement_that_is_prepared(
    database: Database,
) -> None:
    """Default overridden: asyncpg caches prepared statements, and one that selects `*` fails once a
    newer release has added a column; ours name their columns."""
    superuser = await asyncpg.connect(database.superuser_url)
    names = table("parked", column("queue"), column("event_id"), schema="router")
    ours = engine(Url(database.url("router")), "test", connections=1)

    async def read(statement: object) -> None:
        async with ours.begin() as tx:
            await tx.execute(statement)  # type: ignore[call-overload]

    await read(select(names))
    await read(text("SELECT * FROM router.parked"))
    await superuser.execute("ALTER TABLE router.parked ADD COLUMN later int")
    await read(select(names))
    with pytest.raises(DBAPIError, match="cached statement plan is invalid"):
        await read(text("SELECT * FROM router.parked"))
    await ours.dispose()
    await superuser.close()


async def test_each_service_counts_its_own_migrations(database: Database) -> None:
    """Default overridden: Alembic keeps one table of versions for all, `alembic_version`, and the
    second service's migrations would not be found in it."""
    ours = engine(Url(database.url(OWNER)), "test", connections=1)
    async with ours.connect() as tx:
        assert await tx.run_sync(_version_table_by_default) == (None, "alembic_version")
        tables = await tx.scalars(
            text("SELECT schemaname FROM pg_tables WHERE tablename = 'alembic_version'")
        )
    await ours.dispose()
    assert sorted(tables) == service_names()


def _version_table_by_default(connection: Connection) -> tuple[str | None, str]:
    context = MigrationContext.configure(connection)
    return context.version_table_schema, context.version_table
