"""RabbitMQ and PostgreSQL ended, started again and under alarm: private ones, for this file."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import aio_pika
import pytest

from deploy import local
from mailroom.messaging.publishing import open_channel, publish
from mailroom.messaging.relay import BrokerStalled, relay_once
from tests.installation import OWNER, Broker, Database, password_of, vhost_made
from tests.messaging.conftest import FOREIGN, NAMES, migrate, queues
from tests.messaging.test_consume import taken
from tests.messaging.world import DESK, ORDERS, SERVICES, SHOP, OrderPlaced, World, shop_messaging
from tests.waiting import until


@pytest.fixture(scope="module")
def private() -> Iterator[local.Servers]:
    folder = Path(tempfile.mkdtemp(prefix="mailroom-restarts-"))
    # With fsync: what was confirmed must be there after SIGKILL.
    with local.running(folder, which={"postgresql", "rabbitmq"}) as servers:
        local.create_roles(servers, NAMES, {name: password_of(name) for name in [OWNER, *NAMES]})
        vhost_made(servers, "restarts", SERVICES, FOREIGN)
        yield servers
    local.remove(folder)


@pytest.fixture
async def world(private: local.Servers, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    name = f"restarts_{abs(hash(request.node.name))}"
    local.create_database(private, name)
    database = Database(private.postgresql, name)
    migrate(database)
    world = World(database, Broker(private.rabbitmq, "restarts"))
    for queue in queues():
        await world.emptied(queue)
    yield world
    await world.close()


@pytest.mark.matrix
async def test_events_survive_a_broker_that_is_stopped_and_started_again(
    world: World, private: local.Servers
) -> None:
    """Not killed: RabbitMQ 3.10.8 killed soon after a declaration may not find the queue again."""
    async with world.running(SHOP), world.running(DESK):
        await world.place(*(OrderPlaced(number=number) for number in range(200)))
        await taken(world, 1)
        await asyncio.to_thread(local.stop, private, "rabbitmq")
        await world.place(*(OrderPlaced(number=number) for number in range(200, 400)))
        await asyncio.to_thread(local.start, private, "rabbitmq")

        async def all_taken() -> bool:
            return len(await world.taken()) >= 400

        await until(all_taken, within=60)
    assert await world.taken() == list(range(400))
    assert await world.count(shop_messaging.outbox) == 0


async def test_events_survive_a_database_that_is_killed_and_started_again(
    world: World, private: local.Servers
) -> None:
    async with world.running(SHOP), world.running(DESK):
        await world.place(*(OrderPlaced(number=number) for number in range(200)))
        await taken(world, 1)
        await asyncio.to_thread(local.kill, private, "postgresql")

        async def let_go() -> bool:
            return (await world.ready(ORDERS))[1] == 0

        await until(let_go)
        await asyncio.to_thread(local.start, private, "postgresql")

        async def all_taken() -> bool:
            return len(await world.taken()) >= 200

        await until(all_taken, within=60)
    assert await world.taken() == list(range(200))


async def alarm(private: local.Servers, *, on: bool) -> None:
    watermark = "0.0000001" if on else "0.6"
    command = ("set_vm_memory_high_watermark", watermark)
    await asyncio.to_thread(local.rabbitmqctl, private, *command)


async def test_under_a_memory_alarm_the_relay_blames_no_event_and_goes_on_afterwards(
    world: World, private: local.Servers
) -> None:
    """Default overridden: RabbitMQ neither confirms nor refuses then, for ever, and closes nothing;
    and aio-pika waits with it."""
    await world.place(*(OrderPlaced(number=number) for number in range(50)))
    await alarm(private, on=True)
    connection = await aio_pika.connect(world.broker.url("shop"))
    together = partial(publish, await open_channel(connection, 5))
    with pytest.raises(BrokerStalled, match="0 of 50"):
        await relay_once(SHOP, world.resources(SHOP), together, within=1)
    rows = await world.rows(shop_messaging.outbox)
    assert [(row.problem, row.attempts) for row in rows] == [(None, 0)] * 50
    async with world.running(SHOP), world.running(DESK):
        await alarm(private, on=False)
        await taken(world, 50)
    assert await world.taken() == list(range(50))
    await connection.close()


async def test_under_a_memory_alarm_what_is_queued_is_still_handled(
    world: World, private: local.Servers
) -> None:
    """Because nothing is published on the connection that consumes."""
    async with world.running(SHOP, only=lambda name: name == "relay"):
        await world.place(*(OrderPlaced(number=number) for number in range(50)))

        async def queued() -> bool:
            return (await world.ready(ORDERS))[0] == 50

        await until(queued)
    await alarm(private, on=True)
    async with world.running(DESK):
        await taken(world, 50)
        await alarm(private, on=False)
