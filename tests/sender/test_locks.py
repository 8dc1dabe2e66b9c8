"""Whoever locks several mails locks them in the order of their ids: nobody waits in a circle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from mailroom_sender.drafting import mail_id
from tests.sender.office import ERP, Office, to
from tests.waiting import until

IsWaiting = Callable[[], Awaitable[bool]]


async def test_mails_are_put_off_in_the_order_of_their_ids(office: Office) -> None:
    low, high = await _wait_for_a_server_that_is_away(office)
    async with _locked(office, low) as (connection, is_waiting), office.sending():
        await until(is_waiting)
        await _lock(connection, high)


async def test_mails_that_waited_for_a_server_are_due_in_the_order_of_their_ids(
    office: Office,
) -> None:
    low, high = await _wait_for_a_server_that_is_away(office)
    async with office.sending():
        await until(lambda: office.has_due(0))
    async with _locked(office, low) as (connection, is_waiting):
        changing = asyncio.create_task(office.account_changed())
        await until(is_waiting)
        await _lock(connection, high)
    await changing
    assert await office.has_due(2)


async def _wait_for_a_server_that_is_away(office: Office) -> tuple[UUID, UUID]:
    """Two mails; the one with the higher id is due first."""
    await office.set_server("smtp", ("127.0.0.1", office.free_port(), "none"))
    low, high = sorted((uuid4().hex for _ in range(2)), key=lambda key: mail_id(ERP, key))
    for key in (high, low):
        await office.ask(idempotency_key=key, to=to("a@example.com"))
        office.move_clock(timedelta(seconds=1))
    return mail_id(ERP, low), mail_id(ERP, high)


@asynccontextmanager
async def _locked(
    office: Office, mail: UUID
) -> AsyncIterator[tuple[asyncpg.Connection, IsWaiting]]:
    """Hold a mail's row, as who cancels it does; and ask whether the sender waits for a row."""
    connection, looking = [await asyncpg.connect(office.database.superuser_url) for _ in range(2)]

    async def is_waiting() -> bool:
        return bool(
            await looking.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mailroom_sender'"
                " AND datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    async with connection.transaction():
        await _lock(connection, mail)
        yield connection, is_waiting
    await connection.close()
    await looking.close()


async def _lock(connection: asyncpg.Connection, mail: UUID) -> None:
    """Raises LockNotAvailableError if somebody else has it."""
    query = "SELECT FROM sender.requests WHERE mail = $1 FOR UPDATE NOWAIT"
    await connection.fetchrow(query, mail)
