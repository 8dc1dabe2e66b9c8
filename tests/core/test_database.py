"""A connection whose server cannot write, or has gone, is dropped and not pooled; a process that
stands still keeps no lock."""

import asyncio
import socket

import pytest
from pydantic_core import Url
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mailroom.database import DEAD_LINE, end_who_stands_still, engine, may_idle, showing_life
from tests.installation import OWNER, Database
from tests.waiting import until


async def test_a_connection_to_a_read_only_server_is_dropped(database: Database) -> None:
    """Default overridden: SQLAlchemy keeps a connection after 25006, for `SELECT 1` passes on a
    standby."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as connection:
        before = await connection.scalar(text("SELECT pg_backend_pid()"))
        await connection.execute(text("SET default_transaction_read_only = on"))
        await connection.commit()
    with pytest.raises(DBAPIError) as refused:
        async with connections.begin() as tx:
            await tx.execute(text("CREATE TABLE note (id int)"))
    assert refused.value.connection_invalidated
    async with connections.begin() as tx:
        after = await tx.scalar(text("SELECT pg_backend_pid()"))
        await tx.execute(text("CREATE TEMPORARY TABLE note (id int)"))
    assert after != before
    await connections.dispose()


async def test_a_connection_that_the_administrator_ended_is_replaced(database: Database) -> None:
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    other = engine(Url(database.superuser_url), "test", connections=1)
    async with connections.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    async with other.connect() as administrator:
        await administrator.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    with pytest.raises(DBAPIError) as gone:
        async with connections.connect() as connection:
            await connection.execute(text("SELECT 1"))
    assert gone.value.connection_invalidated
    async with connections.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await connections.dispose()
    await other.dispose()


async def test_a_transaction_whose_process_stands_still_is_ended(database: Database) -> None:
    """Default overridden: PostgreSQL waits for ever, and what is locked stays locked."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1, idle_within=0.2)
    other = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as still:
        await still.execute(text("CREATE TABLE note (id int)"))
        await still.commit()
        await still.execute(text("LOCK TABLE note"))
        async with other.begin() as tx:
            await tx.execute(text("SET LOCAL lock_timeout = '10s'"))
            await tx.execute(text("INSERT INTO note VALUES (1)"))
        with pytest.raises(DBAPIError) as ended:
            await still.execute(text("SELECT 1"))
    assert ended.value.connection_invalidated
    await connections.dispose()
    await other.dispose()


async def test_who_prepared_a_statement_and_stands_still_is_ended(database: Database) -> None:
    """Default overridden: asyncpg prepares without a Sync, and PostgreSQL takes who stands still
    behind that for one that works. Who has only begun, or works, is left alone."""
    connections = engine(Url(database.url(OWNER)), "test", connections=3)
    other = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as still, other.connect() as looking:
        await still.execute(text("CREATE TABLE note (id int)"))
        await still.commit()
        await still.execute(text("LOCK TABLE note"))
        driver = (await still.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.prepare("INSERT INTO note VALUES (1)")
        async with connections.connect() as working:
            slow = asyncio.create_task(working.scalar(text("SELECT 1 FROM pg_sleep(1)")))
            assert await end_who_stands_still(looking, within=60) == 0
            await until(lambda: end_who_stands_still(looking, within=0.3))
            assert await end_who_stands_still(looking, within=0) == 0
            assert await slow == 1
        await looking.execute(text("INSERT INTO note VALUES (2)"))
        # Its end comes a moment later than that it let go of the lock.
        await until(driver.is_closed)
        with pytest.raises(DBAPIError) as ended:
            await still.execute(text("SELECT 1"))
    assert ended.value.connection_invalidated
    await connections.dispose()
    await other.dispose()


async def test_a_transaction_may_wait_for_a_process_that_shows_life(database: Database) -> None:
    connections = engine(Url(database.url(OWNER)), "test", connections=1, idle_within=0.5)
    other = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as waiting, other.connect() as clock:
        async with showing_life(waiting, every=0.1):
            await waiting.execute(text("CREATE TABLE note (id int)"))
            await clock.execute(text("SELECT pg_sleep(1.5)"))
        await waiting.commit()
        assert await waiting.scalar(text("SELECT count(*) FROM note")) == 0
    await connections.dispose()
    await other.dispose()


async def test_showing_life_disturbs_no_statement(database: Database) -> None:
    """asyncpg refuses two at once, and a cancelled one would take the transaction with it."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as connection:
        await connection.execute(text("CREATE TABLE note (id int)"))
        for _ in range(4):
            async with showing_life(connection, every=0.001):
                for _ in range(5):
                    await connection.execute(text("INSERT INTO note VALUES (1)"))
                    async with connection.begin_nested() as part:
                        await connection.execute(text("INSERT INTO note VALUES (2)"))
                        await part.rollback()
        await connection.commit()
        assert await connection.scalar(text("SELECT count(*) FROM note")) == 20
    await connections.dispose()


async def test_an_error_within_is_the_error_that_is_told(database: Database) -> None:
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as connection:
        with pytest.raises(DBAPIError, match="division by zero"):
            async with showing_life(connection, every=0):
                await connection.execute(text("SELECT 1/0"))
        await connection.rollback()
        assert await connection.scalar(text("SELECT 1")) == 1
    await connections.dispose()


async def test_the_server_gives_up_who_is_gone_within_half_a_minute(database: Database) -> None:
    """Default overridden: the system's, more than two hours."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    settings = text("SELECT name, CAST(setting AS int) FROM pg_settings WHERE name LIKE 'tcp_%'")
    async with connections.connect() as connection:
        server = {row.name: row.setting for row in await connection.execute(settings)}
    pauses = server["tcp_keepalives_interval"] * server["tcp_keepalives_count"]
    assert server["tcp_keepalives_idle"] + pauses == 30
    assert server["tcp_user_timeout"] == 30_000
    await connections.dispose()


async def test_only_a_transaction_that_asked_for_it_may_wait_for_longer(database: Database) -> None:
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    limit = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    async with connections.connect() as connection:
        async with connection.begin():
            await may_idle(connection, 600)
            assert await connection.scalar(limit) == "10min"
        async with connection.begin():
            assert await connection.scalar(limit) == "15s"
    await connections.dispose()


async def test_an_error_does_not_tell_the_values_of_its_statement(database: Database) -> None:
    """Default overridden: SQLAlchemy puts them into the text of its errors."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    with pytest.raises(DBAPIError) as failed:
        async with connections.connect() as connection:
            await connection.execute(text("SELECT 1/0, CAST(:word AS text)"), {"word": "Geheim"})
    assert "Geheim" not in str(failed.value)
    await connections.dispose()


async def test_a_line_that_is_dead_is_given_up_within_half_a_minute(database: Database) -> None:
    """Default overridden: asyncpg leaves it to the system, which waits for a quarter of an hour for
    an answer to what it sent, and sends nothing for two hours where it waits for an answer."""
    connections = engine(Url(database.url(OWNER)), "test", connections=1)
    async with connections.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        line = driver._transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = {each: line.getsockopt(socket.IPPROTO_TCP, each) for each in DEAD_LINE}
    await connections.dispose()
    assert found == DEAD_LINE
    silence = found[socket.TCP_KEEPINTVL] * found[socket.TCP_KEEPCNT]
    assert found[socket.TCP_KEEPIDLE] + silence <= 30
    assert found[socket.TCP_USER_TIMEOUT] <= 30_000
