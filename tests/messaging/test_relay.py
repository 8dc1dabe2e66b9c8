"""The relay on a real broker: what arrives there, and what stays in the outbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection, DeliveryMode
from aio_pika.exceptions import ChannelInvalidStateError
from prometheus_client import REGISTRY
from sqlalchemy import update

from mailroom import clock as mailroom_clock
from mailroom.messaging import backlog, outbox, publishing
from mailroom.messaging.envelope import Outgoing
from mailroom.messaging.relay import relay_once
from mailroom.service import Resources
from tests.messaging.cable import Cable, cable
from tests.messaging.clock import Clock
from tests.messaging.world import (
    ORDERS,
    SHOP,
    OrderCancel,
    OrderPlaced,
    World,
    shop_messaging,
)
from tests.waiting import until


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[tuple[Resources[Any], AbstractConnection]]:
    async with await aio_pika.connect(world.broker.url("shop")) as connection:
        yield world.resources(SHOP), connection


async def relay_all(world: World) -> None:
    """Run the relay until nothing is due."""

    async def nothing_due() -> bool:
        rows = await world.rows(shop_messaging.outbox)
        return all(row.due > mailroom_clock.now() for row in rows)

    async with world.running(SHOP, only=only_relay):
        await until(nothing_due)


def only_relay(name: str) -> bool:
    return name == "relay"


async def test_an_event_arrives_as_it_was_written_with_all_its_properties(world: World) -> None:
    (id_,) = await world.place(OrderPlaced(number=1, size="big"))
    (row,) = await world.rows(shop_messaging.outbox)
    await relay_all(world)
    (message,) = await world.emptied(ORDERS)
    assert message.body == row.body
    assert message.message_id == id_
    assert message.type == "order.placed"
    assert message.routing_key == "order.placed.big"
    assert message.correlation_id == "order-0"
    assert (message.user_id, message.app_id) == ("shop", "shop")
    assert message.content_type == "application/json"
    assert message.timestamp == row.created_at.replace(microsecond=0)


async def test_an_event_is_persistent_though_the_libraries_default_is_not(world: World) -> None:
    await world.place(OrderPlaced(number=1))
    await relay_all(world)
    (message,) = await world.emptied(ORDERS)
    assert message.delivery_mode == DeliveryMode.PERSISTENT


async def test_a_running_relay_publishes_as_soon_as_it_is_told(world: World) -> None:
    async with world.running(SHOP, only=only_relay):
        for number in range(3):
            await world.place(OrderPlaced(number=number))

            async def arrived(count: int = number + 1) -> bool:
                return (await world.ready(ORDERS))[0] == count

            await until(arrived)


async def test_what_falls_due_is_published_though_nobody_tells(world: World, clock: Clock) -> None:
    due = mailroom_clock.now() + timedelta(hours=1)
    event = Outgoing(OrderPlaced(number=1), "c", due=due)
    async with world.running(SHOP, only=only_relay) as resources:
        async with resources.engine.begin() as tx:
            await outbox.add(tx, shop_messaging, [event])
        await relay_all(world)
        assert (await world.ready(ORDERS))[0] == 0
        clock.forward(timedelta(hours=1))

        async def arrived() -> bool:
            return (await world.ready(ORDERS))[0] == 1

        await until(arrived)


async def test_an_unroutable_command_tells_its_problem_and_lets_others_pass(world: World) -> None:
    """RabbitMQ confirms what it could not route: only mandatory with on_return_raises tells."""
    await world.place(*(OrderPlaced(number=number) for number in range(5)), OrderCancel(number=9))
    await relay_all(world)
    (stuck,) = await world.rows(shop_messaging.outbox)
    assert stuck.type == "order.cancel"
    assert "NO_ROUTE" in stuck.problem
    assert stuck.attempts == 1
    assert stuck.due > mailroom_clock.now()
    assert (await world.ready(ORDERS))[0] == 5


async def test_a_command_is_tried_again_and_leaves_when_its_queue_is_there(
    world: World, clock: Clock
) -> None:
    await world.place(OrderCancel(number=9))
    for attempt in range(1, 5):
        await relay_all(world)
        (row,) = await world.rows(shop_messaging.outbox)
        assert row.attempts == attempt
        clock.forward(timedelta(minutes=5))
    async with await aio_pika.connect(world.broker.admin_url) as connection:
        queue = await (await connection.channel()).declare_queue("late", exclusive=True)
        await queue.bind("mailroom", "order.cancel")
        await relay_all(world)
        assert await queue.get(timeout=5)
    assert await world.count(shop_messaging.outbox) == 0


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"exchange": "nowhere"}, "access to exchange 'nowhere'"),
        ({"routing_key": "order.shipped"}, "ACCESS_REFUSED"),
        ({"routing_key": "x" * 300}, "Routing key too long"),
        ({"correlation_id": "x" * 300}, "string exceeds maximum length"),
    ],
    ids=lambda wrong: str(wrong)[:30],
)
async def test_a_row_that_closes_the_channel_fails_alone(
    world: World, wrong: dict[str, str], problem: str
) -> None:
    ids = await world.place(*(OrderPlaced(number=number) for number in range(20)))
    async with world.resources(SHOP).engine.begin() as tx:
        table = shop_messaging.outbox
        await tx.execute(update(table).where(table.c.event_id == ids[7]).values(**wrong))
    await relay_all(world)
    (stuck,) = await world.rows(shop_messaging.outbox)
    assert stuck.event_id == ids[7]
    assert problem in stuck.problem
    arrived = {message.message_id for message in await world.emptied(ORDERS)}
    assert arrived == {*ids} - {ids[7]}


async def test_what_was_confirmed_but_not_moved_is_published_again_with_the_same_id(
    world: World,
) -> None:
    """A relay that ends between RabbitMQ's confirmation and its own commit."""
    (id_,) = await world.place(OrderPlaced(number=1))
    async with connected(world) as (resources, connection):
        channel = await publishing.open_channel(connection, 10)
        async with resources.engine.connect() as tx:
            rows = await outbox.claim(tx, shop_messaging, mailroom_clock.now(), 10)
            outcome = await publishing.publish(channel, rows, "shop", 10)
            assert outcome.confirmed == [row.id for row in rows]
            await tx.rollback()
        await relay_once(SHOP, resources, partial(publishing.publish, channel))
    assert [message.message_id for message in await world.emptied(ORDERS)] == [id_, id_]
    assert await world.count(shop_messaging.outbox) == 0


async def test_a_channel_serves_round_after_round_also_after_what_came_back(world: World) -> None:
    """aiormq keeps of a returned message that its confirmation is still to come."""
    async with connected(world) as (resources, connection):
        together = partial(publishing.publish, await publishing.open_channel(connection, 10))
        for number in range(3):
            await world.place(OrderCancel(number=number), OrderPlaced(number=number))
            assert await relay_once(SHOP, resources, together) == 2
    stuck = await world.rows(shop_messaging.outbox)
    assert [(row.type, row.attempts) for row in stuck] == [("order.cancel", 1)] * 3
    assert (await world.ready(ORDERS))[0] == 3


async def test_a_channel_that_was_closed_takes_nothing_and_blames_nothing(world: World) -> None:
    await world.place(OrderPlaced(number=1))
    async with connected(world) as (resources, connection):
        channel = await publishing.open_channel(connection, 10)
        await channel.close()
        with pytest.raises(ChannelInvalidStateError):
            await relay_once(SHOP, resources, partial(publishing.publish, channel))
    (row,) = await world.rows(shop_messaging.outbox)
    assert (row.problem, row.attempts) == (None, 0)


async def test_one_by_one_no_row_is_begun_when_time_is_up_and_the_others_stay_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a slow line two hundred, each alone, take longer than they may be claimed for."""
    await world.place(*(OrderPlaced(number=number) for number in range(3)))
    rows = await world.rows(shop_messaging.outbox)
    monkeypatch.setattr(publishing, "monotonic", count(step=4).__next__)
    async with connected(world) as (_, connection):
        outcome = await publishing.publish_one_by_one(connection, rows, "shop", 10)
    assert outcome == publishing.Outcome(confirmed=[row.id for row in rows[:2]])
    assert (await world.ready(ORDERS))[0] == 2


async def test_two_relays_publish_each_event_once(world: World) -> None:
    ids = await world.place(*(OrderPlaced(number=number) for number in range(1000)))
    await asyncio.gather(relay_all(world), relay_all(world))
    arrived = [message.message_id for message in await world.emptied(ORDERS)]
    assert sorted(filter(None, arrived)) == sorted(ids)


async def test_two_rows_of_one_event_id_are_not_taken_for_each_other(world: World) -> None:
    """aiormq tells returned messages apart by their message id alone."""
    same = uuid4()
    await world.place(OrderCancel(number=1), OrderPlaced(number=2), ids=[same, same])
    await relay_all(world)
    (stuck,) = await world.rows(shop_messaging.outbox)
    assert stuck.type == "order.cancel"
    assert [message.message_id for message in await world.emptied(ORDERS)] == [str(same)]


@asynccontextmanager
async def on_a_cable(world: World) -> AsyncIterator[tuple[World, Cable]]:
    server = world.broker.server
    async with cable(server.host, server.port) as to_broker:
        behind = replace(world.broker, server=replace(server, port=to_broker.port))
        yield replace(world, broker=behind, opened=world.opened), to_broker


async def test_nothing_is_lost_while_the_broker_is_away_and_attempts_have_no_end(
    world: World, clock: Clock
) -> None:
    async with on_a_cable(world) as (behind, to_broker), behind.running(SHOP, only=only_relay):
        await world.place(OrderPlaced(number=1))

        async def arrived(count: int) -> bool:
            return (await world.ready(ORDERS))[0] == count

        async def recorded() -> bool:
            return await world.count(shop_messaging.outbox) == 0

        await until(lambda: arrived(1))
        await until(recorded)
        to_broker.cut()
        await world.place(*(OrderPlaced(number=number) for number in range(300)))
        clock.forward(timedelta(days=3))
        await backlog.look(SHOP, world.resources(SHOP), mailroom_clock.now())
        assert REGISTRY.get_sample_value("mailroom_outbox_due", {"service": "shop"}) == 300
        oldest = REGISTRY.get_sample_value("mailroom_outbox_oldest_seconds", {"service": "shop"})
        assert oldest is not None
        assert oldest >= timedelta(days=3).total_seconds()
        await to_broker.mend()
        await until(lambda: arrived(301), within=30)
    assert await world.count(shop_messaging.outbox) == 0
    assert all(row.problem is None for row in await world.rows(shop_messaging.outbox))
