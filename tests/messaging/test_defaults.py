"""What aio-pika, FastStream and RabbitMQ do if nobody says otherwise, and that we say otherwise.

docs/decisions/defaults-we-override.md lists all of them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, DeliveryMode, ExchangeType
from aio_pika.exceptions import AMQPConnectionError, ChannelClosed, ChannelPreconditionFailed
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue

from deploy import local
from mailroom.messaging import consume, topology
from mailroom.messaging.addresses import HEARTBEAT
from mailroom.messaging.publishing import open_channel, publish
from tests.installation import OWNER
from tests.messaging.cable import cable
from tests.messaging.test_consume import deliver, order, parked, taken
from tests.messaging.test_relay import relay_all
from tests.messaging.world import (
    DESK,
    ORDERS,
    OrderCancel,
    OrderPlaced,
    World,
    shop_messaging,
)
from tests.waiting import until


@pytest.fixture
async def channel(world: World) -> AsyncIterator[AbstractChannel]:
    """As the administrator, with aio-pika's defaults."""
    async with await aio_pika.connect(world.broker.admin_url) as connection:
        yield await connection.channel()


async def test_an_event_outlives_a_restart_which_it_would_not_as_faststream_publishes(
    world: World,
) -> None:
    """Default overridden: FastStream publishes with persist=False; a classic queue forgets that."""
    async with RabbitBroker(world.broker.url("shop"), logger=None) as faststream:
        key = "order.placed.small"
        events = RabbitExchange("mailroom", declare=False)
        await faststream.publish(order(1), routing_key=key, exchange=events, user_id="shop")
    await world.place(OrderPlaced(number=2))
    await relay_all(world)
    by_default, ours = await world.emptied(ORDERS)
    assert by_default.delivery_mode == DeliveryMode.NOT_PERSISTENT
    assert ours.delivery_mode == DeliveryMode.PERSISTENT


async def test_a_command_that_no_queue_takes_fails_where_aio_pika_would_say_nothing(
    world: World,
) -> None:
    """Default overridden: `mandatory` without on_return_raises returns the message to nobody, and
    RabbitMQ confirms it."""
    await world.place(OrderCancel(number=1))
    (row,) = await world.rows(shop_messaging.outbox)
    async with await aio_pika.connect(world.broker.url("shop")) as connection:
        exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
        await exchange.publish(aio_pika.Message(row.body), row.routing_key, mandatory=True)
        outcome = await publish(await open_channel(connection, 5), [row], "shop", 5)
    assert outcome.confirmed == []
    assert "NO_ROUTE" in outcome.problems[row.id]


async def test_an_event_whose_handler_fails_is_kept_where_faststream_would_drop_it(
    world: World, channel: AbstractChannel
) -> None:
    """Default overridden: FastStream's ack policy rejects what its handler failed on, for good."""
    dropped = await channel.declare_queue(exclusive=True)
    caught: Any = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dropped.name}
    faststream = RabbitBroker(world.broker.admin_url, logger=None)

    @faststream.subscriber(RabbitQueue("tried", exclusive=True, arguments=caught))
    async def fail(_: str) -> None:
        raise ZeroDivisionError

    async with faststream:
        await faststream.start()
        await faststream.publish("lost, were it not caught here", "tried")
        message = await until(lambda: dropped.get(fail=False, no_ack=True))
    deaths: Any = message.headers["x-death"]
    assert [death["reason"] for death in deaths] == ["rejected"]

    await deliver(world, 1, note="park")
    async with world.running(DESK):
        (row,) = await parked(world)
    assert row.body == order(1, note="park")


async def test_a_service_takes_its_queues_as_they_are_where_faststream_would_declare_them(
    world: World,
) -> None:
    """Default overridden: FastStream declares queues; a service, which may not, never starts."""
    by_default = RabbitBroker(world.broker.url("desk"), logger=None)
    by_default.subscriber(ORDERS)(print)
    async with by_default:
        with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
            await by_default.start()
    async with world.running(DESK):
        await deliver(world, 1)
        await taken(world, 1)


async def test_a_service_that_starts_before_the_broker_waits_where_faststream_would_fail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Default overridden: fail_fast raises at the first refusal, and connecting again takes 5 s."""
    server = world.broker.server
    async with cable(server.host, server.port) as to_broker:
        to_broker.cut()
        behind = replace(world.broker, server=replace(server, port=to_broker.port))
        with pytest.raises(AMQPConnectionError):
            await RabbitBroker(behind.url("desk"), logger=None).start()
        resources = replace(world, broker=behind).resources(DESK)
        broker = consume.broker_for(DESK, resources.settings)
        starting = asyncio.ensure_future(broker.start())
        try:
            await until(lambda: "Reconnecting after 1 seconds" in caplog.text)
        finally:
            await to_broker.mend()
            await asyncio.wait_for(starting, 30)
            await broker.stop()


async def test_every_connection_of_a_service_has_a_heartbeat_that_shows_its_end_within_a_minute(
    world: World, rabbitmq: local.Servers
) -> None:
    """Default overridden: 60 s, and aio-pika waits for three of them: three minutes of silence."""
    async with world.running(DESK), await aio_pika.connect(world.broker.url("erp")):

        async def told() -> dict[str, set[int]]:
            asked = ("list_connections", "user", "vhost", "timeout", "--formatter", "json")
            shown = await asyncio.to_thread(local.rabbitmqctl, rabbitmq, *asked)
            here = [each for each in json.loads(shown) if each["vhost"] == world.broker.vhost]
            return {
                user: {each["timeout"] for each in here if each["user"] == user}
                for user in ("desk", "erp")
            }

        async def all_connected() -> bool:
            assert await told() == {"desk": {HEARTBEAT}, "erp": {60}}
            return True

        await until(all_connected, within=30)
    assert 3 * (HEARTBEAT + 1) <= 60


async def test_what_is_delivered_too_often_is_kept_where_rabbitmq_would_drop_it(
    world: World, channel: AbstractChannel
) -> None:
    """Default overridden: a delivery limit without a dead-letter exchange drops; with one, an event
    is dead-lettered at most once, so that a broker that ends meanwhile drops it too."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    queue = await channel.declare_queue("tried.limit", durable=True, arguments=arguments)
    await channel.default_exchange.publish(aio_pika.Message(b"lost"), queue.name)
    for _ in range(2):
        message = await queue.get()
        await message.nack(requeue=True)
    assert await queue.get(fail=False) is None
    await queue.delete(if_unused=False, if_empty=False)
    # What becomes of ours stands in test_dead.py: it is parked.
    policies = topology.definitions([DESK], "v", {})["policies"]
    (limits,) = [each["definition"] for each in policies if each["name"] == "desk"]
    assert limits["dead-letter-strategy"] == "at-least-once"
    assert limits["dead-letter-exchange"]


async def test_no_queue_of_ours_drops_its_oldest_event_as_rabbitmq_does_in_a_full_one(
    world: World, channel: AbstractChannel
) -> None:
    """Default overridden: the overflow of a queue with a length limit is drop-head."""
    queue = await channel.declare_queue(exclusive=True, arguments={"x-max-length": 1})
    for word in (b"first", b"second"):
        await channel.default_exchange.publish(aio_pika.Message(word), queue.name)
    assert (await queue.get(no_ack=True)).body == b"second"
    policies = [each["definition"] for each in topology.definitions([DESK], "v", {})["policies"]]
    assert not [each for each in policies if each.keys() & {"max-length", "max-length-bytes"}]
    limited = [each for each in policies if "dead-letter-exchange" in each]
    assert {each["overflow"] for each in limited} == {"reject-publish"}


@pytest.mark.parametrize("name", ["mailroom", "mailroom.dead", "desk.retry"])
async def test_an_exchange_outlives_a_restart_which_it_would_not_as_aio_pika_declares_it(
    world: World, name: str
) -> None:
    """Default overridden: aio-pika declares exchanges that are not durable."""
    kind = ExchangeType.TOPIC if name == "mailroom" else ExchangeType.DIRECT
    async with await aio_pika.connect(world.broker.url(OWNER)) as connection:
        with pytest.raises(ChannelPreconditionFailed, match="'durable'"):
            await (await connection.channel()).declare_exchange(name, kind)


async def test_a_handler_ends_before_rabbitmq_takes_its_event_away(
    world: World, rabbitmq: local.Servers
) -> None:
    """Default overridden: a handler may take for ever, and after half an hour RabbitMQ closes the
    channel of everything in hand; ours is ended and its event put off (test_absence.py)."""
    asked = "application:get_env(rabbit, consumer_timeout)."
    told = await asyncio.to_thread(local.rabbitmqctl, rabbitmq, "eval", asked)
    milliseconds = int(told.strip().strip("{}").removeprefix("ok,"))
    # Handled as a batch, and then each by itself.
    assert milliseconds > 2 * consume.HANDLE_WITHIN * 1000
