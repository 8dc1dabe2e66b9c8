"""`mailroom migrate` runs twice at once, dies in the middle, or meets a newer database: all is done
or nothing, and whoever ran it is told."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic_core import Url
from sqlalchemy import text

from deploy import local
from mailroom.database import engine, schema_of
from mailroom.migrations import LOCK
from mailroom.service import installed
from tests.installation import OWNER, Broker, Database
from tests.waiting import until

SCHEMAS = sorted(schema_of(name) for name in installed())
DONE = f"migrated: {', '.join(sorted(installed()))}\n"
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


@pytest.fixture
def empty(postgresql: local.Servers) -> Iterator[Database]:
    """A database in which nobody has migrated yet."""
    database = Database(postgresql.postgresql, f"mailroom_{uuid4().hex}")
    local.create_database(postgresql, database.name)
    yield database
    local.drop_database(postgresql, database.name)


async def test_of_two_at_once_one_waits_for_the_other_and_both_succeed(
    programs: Path, empty: Database, broker: Broker
) -> None:
    async with nobody_creates(empty, SCHEMAS[-1]):
        first = await migrating(programs, empty, broker)
        await until(lambda: waits(empty, "CREATE SCHEMA%"), within=PATIENCE)
        second = await migrating(programs, empty, broker)
        await until(lambda: waits(empty, "%pg_advisory_xact_lock%"), within=PATIENCE)
    said = [await ended(first), await ended(second)]
    assert said == [
        (0, DONE, ""),
        (0, DONE, "mailroom: another `mailroom migrate` is running: waiting for it\n"),
    ]
    assert await schemas(empty) == SCHEMAS


async def test_killed_in_the_middle_it_leaves_nothing_and_the_next_one_completes(
    programs: Path, empty: Database, broker: Broker
) -> None:
    async with nobody_creates(empty, SCHEMAS[-1]):
        killed = await migrating(programs, empty, broker)
        await until(lambda: waits(empty, "CREATE SCHEMA%"), within=PATIENCE)
        killed.kill()
        await killed.wait()
    assert await schemas(empty) == []
    assert await ended(await migrating(programs, empty, broker)) == (0, DONE, "")
    assert await schemas(empty) == SCHEMAS


async def test_a_database_that_a_newer_version_migrated_is_told_and_left_as_it_is(
    programs: Path, database: Database, broker: Broker
) -> None:
    await run(database, "UPDATE router.alembic_version SET version_num = '0099'")
    await run(database, "DROP TABLE fetcher.arrivals")
    code, out, err = await ended(await migrating(programs, database, broker))
    assert (code, out) == (2, "")
    assert err == (
        "mailroom: schema 'router 0099': a newer version migrated it:"
        " run that one's `mailroom migrate` and services\n"
    )
    assert await run(database, "SELECT version_num FROM router.alembic_version") == ["0099"]


async def migrating(
    programs: Path, database: Database, broker: Broker
) -> asyncio.subprocess.Process:
    """`mailroom migrate`, in a process of its own."""
    urls = {
        "MAILROOM_OWNER_DATABASE_URL": database.url(OWNER),
        "MAILROOM_OWNER_BROKER_URL": broker.url(OWNER),
    }
    return await asyncio.create_subprocess_exec(
        programs / "mailroom",
        "migrate",
        env=os.environ | urls,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def nobody_creates(database: Database, schema: str) -> AsyncIterator[None]:
    """Whoever wants to create the schema waits: somebody else seems to be about to."""
    connections = engine(Url(database.superuser_url), "test", connections=1, idle_within=600)
    async with connections.connect() as connection:
        await connection.execute(text(f"CREATE SCHEMA {schema}"))
        yield
        await connection.rollback()
    await connections.dispose()


async def waits(database: Database, statement: str) -> bool:
    """Whether some transaction waits for a lock with a statement like this."""
    waiting = (
        "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE :like"
    )
    return await run(database, waiting, like=statement) != []


async def schemas(database: Database) -> list[str]:
    """Those of our services that are there; who is dying is waited for."""
    await run(database, "SELECT pg_advisory_xact_lock(:lock)", lock=LOCK)
    there = await run(database, "SELECT nspname::text FROM pg_namespace ORDER BY nspname")
    return [name for name in there if name in SCHEMAS]


async def run(database: Database, statement: str, **values: object) -> list[str]:
    connections = engine(Url(database.superuser_url), "test", connections=1)
    async with connections.begin() as tx:
        done = await tx.execute(text(statement), values)
        found = list(done.scalars()) if done.returns_rows else []
    await connections.dispose()
    return found
