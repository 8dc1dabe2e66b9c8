"""What every other test relies on: a database and queues that nobody used before."""

import aio_pika
import asyncpg
import pytest

from tests.installation import OWNER, Broker, Database, installed_services, queues_of

TWICE = pytest.mark.parametrize("turn", ["first", "second"])


@TWICE
async def test_a_database_is_migrated_and_nobody_used_it(database: Database, turn: str) -> None:
    owner = await asyncpg.connect(database.url(OWNER), timeout=10)
    schemas = await owner.fetch("SELECT nspname FROM pg_namespace")
    for service in installed_services():
        assert (service.messaging.schema,) in [tuple(row) for row in schemas]
    await owner.execute("CREATE TABLE public.used ()")
    await owner.close()


@TWICE
async def test_queues_are_declared_and_empty(broker: Broker, turn: str) -> None:
    async with await aio_pika.connect(broker.admin_url, timeout=10) as connection:
        channel = await connection.channel(on_return_raises=True)
        for service in installed_services():
            for name in queues_of(service):
                queue = await channel.get_queue(name)
                assert queue.declaration_result.message_count == 0
                await channel.default_exchange.publish(aio_pika.Message(b"left"), name, timeout=10)


async def test_each_service_has_a_user_and_a_role_of_its_own(
    broker: Broker, database: Database
) -> None:
    for service in installed_services():
        async with await aio_pika.connect(broker.url(service.name), timeout=10):
            pass
        await (await asyncpg.connect(database.url(service.name), timeout=10)).close()
