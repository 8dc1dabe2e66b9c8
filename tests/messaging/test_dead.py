"""Dead letters: what is delivered again and again is kept, and takes no neighbour with it."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest

from deploy import local
from mailroom.messaging import topology
from mailroom.messaging.dead import last_life, reason
from tests.messaging.test_admission import GOOD
from tests.messaging.test_consume import deliver, order, parked, taken
from tests.messaging.test_parked import replay
from tests.messaging.world import DESK, ORDERS, World, desk_messaging
from tests.waiting import until

PARKED = desk_messaging.parked


async def exhaust(world: World, queue: str) -> None:
    """Deliver what is in a queue until the broker gives it up."""
    async with await aio_pika.connect(world.broker.admin_url) as connection:
        source = await (await connection.channel()).get_queue(queue)
        while (message := await source.get(fail=False)) is not None:
            await message.nack(requeue=True)


async def test_what_exceeds_the_delivery_limit_is_parked_with_the_queue_it_died_on(
    world: World,
) -> None:
    await deliver(world, 7, event_id="e7")
    await exhaust(world, ORDERS)

    async def dead() -> bool:
        return (await world.ready("dead.desk"))[0] == 1

    await until(dead)
    async with world.running(DESK):
        (row,) = await parked(world)
        assert row.reason.startswith("delivery_limit")
        assert (row.queue, row.event_id, row.publisher) == (ORDERS, "e7", "shop")
        assert (row.routing_key, row.type) == ("order.placed.small", "order.placed")
        assert row.body == order(7)
        assert row.headers["x-death"][0]["count"] == 1
        await replay(world, row.id)
        await taken(world, 1)
    assert (await world.ready("dead.desk"))[0] == 0
    assert await world.count(PARKED) == 0


async def test_a_retry_that_dies_keeps_its_first_publisher_and_key(world: World) -> None:
    headers = {"publisher": "shop", "routing_key": "order.placed.small", "tries": 3}
    properties = {"message_id": "e7", "type": "order.placed", "user_id": "desk"}
    await world.publish("desk", ORDERS, order(7), "desk.retry", headers=headers, **properties)
    await exhaust(world, ORDERS)
    async with world.running(DESK, only=lambda name: name == "drain"):
        (row,) = await parked(world)
    assert (row.publisher, row.routing_key, row.tries) == ("shop", "order.placed.small", 3)


def test_a_dead_letter_is_read_as_it_was_on_the_queue_of_its_latest_death() -> None:
    death = {"queue": "desk.a", "exchange": "mailroom", "routing-keys": ["a", "b"], "count": 1}
    older = {"queue": "desk.b", "exchange": "x", "routing-keys": ["c"], "count": 1}
    from_ = {"queue": "", "exchange": "mailroom.dead", "routing_key": "dead.desk"}
    given = GOOD.__class__(**(GOOD.__dict__ | from_ | {"headers": {"x-death": [death, older]}}))
    read = last_life(given)
    assert (read.queue, read.exchange, read.routing_key) == ("desk.a", "mailroom", "a")


async def test_a_command_that_expired_is_parked_with_that_reason_and_can_be_replayed(
    world: World,
) -> None:
    """A publisher may give a message a time to live; who waits for it shall learn of its end."""
    properties = {"message_id": "e7", "type": "order.placed", "user_id": "shop"}
    await world.publish("shop", "order.placed.small", order(7), expiration=0, **properties)
    async with world.running(DESK):
        (row,) = await parked(world)
        assert row.reason.startswith("expired: its publisher gave it a time to live")
        assert (row.queue, row.event_id, row.publisher) == (ORDERS, "e7", "shop")
        await replay(world, row.id)
        await taken(world, 1)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-death": [{"reason": "delivery_limit"}, {"reason": "expired"}]}, "delivery_limit: "),
        ({"x-death": [{"reason": "maxlen"}]}, "maxlen: the broker gave it up"),
        ({"x-death": "?"}, "the broker gave it up, and does not say why"),
    ],
)
def test_a_dead_letter_is_parked_for_the_reason_of_its_latest_death(
    headers: dict[str, Any], words: str
) -> None:
    assert reason(GOOD.__class__(**(GOOD.__dict__ | {"headers": headers}))).startswith(words)


@pytest.mark.parametrize("headers", [{}, {"x-death": "?"}, {"x-death": []}, {"x-death": [{}]}])
def test_a_dead_letter_that_does_not_say_where_it_died_is_kept_all_the_same(
    headers: dict[str, Any],
) -> None:
    read = last_life(GOOD.__class__(**(GOOD.__dict__ | {"queue": "", "headers": headers})))
    assert (read.queue, read.body) == ("unknown", GOOD.body)


@pytest.fixture
async def low_limits(world: World, rabbitmq: local.Servers) -> AsyncIterator[None]:
    """Two deliveries more are enough, so that a test need not wait for twenty connections."""
    policies = {
        "low": (r"^desk\.", topology.dead_queue("desk")),
        "low-dead": (r"^dead\.", topology.BURIED),
    }
    at = ("-p", world.broker.vhost)
    for name, (pattern, key) in policies.items():
        definition = {
            "delivery-limit": 2,
            "dead-letter-exchange": topology.DEAD_EXCHANGE,
            "dead-letter-routing-key": key,
        }
        command = ("set_policy", *at, "--priority", "9", "--apply-to", "queues")
        arguments = (*command, name, pattern, json.dumps(definition))
        await asyncio.to_thread(local.rabbitmqctl, rabbitmq, *arguments)
    yield
    for name in policies:
        await asyncio.to_thread(local.rabbitmqctl, rabbitmq, "clear_policy", *at, name)


@pytest.mark.usefixtures("low_limits")
async def test_a_message_that_breaks_each_connection_it_comes_by_takes_no_neighbour_with_it(
    world: World,
) -> None:
    """A time in nanoseconds: pamqp cannot read it, and aiormq closes the connection."""
    marked = 1_234_567_890

    def in_nanoseconds(frames: bytes) -> bytes:
        return frames.replace(struct.pack(">Q", marked), struct.pack(">Q", time.time_ns()))

    for number in range(40):
        await deliver(world, number)
        if number == 20:
            await world.publish_frames(
                "shop",
                "order.placed.small",
                order(99),
                spoil=in_nanoseconds,
                timestamp=datetime.fromtimestamp(marked, tz=UTC),
                message_id="e99",
                message_type="order.placed",
                user_id="shop",
            )
    async with world.running(DESK):
        await taken(world, 40)

        async def buried() -> bool:
            return (await world.ready(topology.BURIED))[0] == 1

        await until(buried, within=60)
        await deliver(world, 40)
        await taken(world, 41)
    assert await world.taken() == list(range(41))
    assert await world.count(PARKED) == 0
