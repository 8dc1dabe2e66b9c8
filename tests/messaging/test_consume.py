"""Consume once: what comes is handled exactly once, or kept where a person finds it."""

import asyncio
import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from deploy import local
from mailroom import clock as mailroom_clock
from mailroom.messaging import consume
from mailroom.settings import SettingsRefused
from tests.messaging.clock import Clock
from tests.messaging.world import (
    DESK,
    MAILS,
    ORDERS,
    SHOP,
    OrderPlaced,
    World,
    desk_messaging,
)
from tests.waiting import until

CONSUMED, PARKED, OUTBOX = desk_messaging.consumed, desk_messaging.parked, desk_messaging.outbox


def only_consumers(name: str) -> bool:
    return name.startswith("consume")


def order(number: int, **more: Any) -> bytes:
    return OrderPlaced(number=number, **more).model_dump_json().encode()


async def deliver(world: World, number: int, *, event_id: str = "", **more: Any) -> None:
    """An order that shop publishes at once, past its outbox."""
    properties = {"message_id": event_id or uuid4().hex, "type": "order.placed", "user_id": "shop"}
    await world.publish("shop", "order.placed.small", order(number, **more), **properties)


async def all_settled(world: World, queue: str = ORDERS) -> bool:
    """Nothing is ready, and when the consumers have gone nothing comes back (see `idle`)."""
    return (await world.ready(queue))[0] == 0


async def taken(world: World, count: int) -> None:
    async def enough() -> bool:
        return len(await world.taken()) >= count

    await until(enough, within=20)


async def parked(world: World, count: int = 1) -> list[Any]:
    async def enough() -> bool:
        return await world.count(PARKED) >= count

    await until(enough, within=20)
    return await world.rows(PARKED)


async def nothing_left(world: World, queue: str = ORDERS) -> None:
    """Everything was acknowledged: with no consumer there, nothing is ready."""

    async def unconsumed() -> bool:
        return (await world.ready(queue))[1] == 0

    await until(unconsumed)
    assert (await world.ready(queue))[0] == 0


async def test_an_event_written_in_one_service_is_handled_once_in_another(world: World) -> None:
    async with world.running(SHOP), world.running(DESK):
        await world.place(*(OrderPlaced(number=number) for number in range(300)))
        await taken(world, 300)
    assert await world.taken() == list(range(300))
    assert await world.count(CONSUMED) == 300
    await nothing_left(world)


async def test_what_a_handler_returns_is_published_with_its_causes_correlation_id(
    world: World,
) -> None:
    async with world.running(DESK, only=only_consumers):
        await world.publish(
            "shop",
            "order.placed.small",
            order(7),
            message_id="e1",
            type="order.placed",
            user_id="shop",
            correlation_id="from the mail",
        )
        await taken(world, 1)
    (row,) = await world.rows(OUTBOX)
    assert (row.type, row.correlation_id) == ("order.shipped", "from the mail")


@pytest.mark.parametrize("note", ["park", "sql SELECT 1/0"])
async def test_one_bad_event_fails_none_of_the_99_beside_it(world: World, note: str) -> None:
    numbers = range(100)
    events = [OrderPlaced(number=each, note=note if each == 57 else "") for each in numbers]
    async with world.running(SHOP, only=lambda name: name == "relay"):
        await world.place(*events)

        async def arrived() -> bool:
            return (await world.ready(ORDERS))[0] == 100

        await until(arrived)
    async with world.running(DESK, only=only_consumers):
        (row,) = await parked(world)
        await taken(world, 99)
    assert await world.taken() == [number for number in numbers if number != 57]
    assert row.body == order(57, note=note)
    await nothing_left(world)


async def test_a_parked_event_says_why_when_and_where_and_keeps_its_bytes(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, event_id="e7", note="sql SELECT 1/0")
        (row,) = await parked(world)
    assert (row.queue, row.event_id, row.publisher) == (ORDERS, "e7", "shop")
    assert (row.type, row.routing_key, row.tries) == ("order.placed", "order.placed.small", 1)
    assert row.reason == "22012 division by zero"
    assert "in take_orders" in row.traceback
    assert row.body == order(7, note="sql SELECT 1/0")
    assert row.first_at == row.last_at
    assert await world.count(CONSUMED) == 0


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("later", "the order says so"),
        ("bug", "Exploded: secret words"),
        ("sql DO $$ BEGIN RAISE deadlock_detected; END $$", "40P01"),
        ("sql DO $$ BEGIN RAISE lock_not_available; END $$", "55P03"),
    ],
)
async def test_what_fails_for_now_is_published_to_its_own_queue_later_and_parked_in_the_end(
    world: World, clock: Clock, note: str, said: str
) -> None:
    async with world.running(DESK, tries=3) as resources:
        await deliver(world, 7, event_id="e7", note=note)
        for tries in (1, 2):

            async def put_off(tries: int = tries) -> Any:
                rows = await world.rows(OUTBOX)
                return next((row for row in rows if row.headers["tries"] == tries), None)

            row: Any = await until(put_off)
            assert row.event_id == "e7"
            assert (row.exchange, row.routing_key, row.mandatory) == ("desk.retry", ORDERS, True)
            assert row.headers["publisher"] == "shop"
            assert row.due > mailroom_clock.now()
            clock.forward(timedelta(hours=1))
        (dead,) = await parked(world)
        assert resources.settings.tries == 3
    assert dead.reason.startswith("tried 3 times: ")
    assert said in dead.reason
    assert (dead.publisher, dead.routing_key) == ("shop", "order.placed.small")
    assert await world.count(CONSUMED) == 0
    await nothing_left(world)


async def test_while_one_event_waits_for_its_next_try_others_pass(world: World) -> None:
    async with world.running(DESK):
        await deliver(world, 1, note="later")
        for number in range(2, 12):
            await deliver(world, number)
        await taken(world, 10)
    assert await world.taken() == list(range(2, 12))


async def test_an_event_that_comes_twice_is_handled_once(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        for _ in range(2):
            await deliver(world, 7, event_id="e7")
        await deliver(world, 8)
        await taken(world, 2)
    assert await world.taken() == [7, 8]
    await nothing_left(world)


async def test_an_event_that_is_twice_in_one_batch_is_handled_once(world: World) -> None:
    for number in (1, 7, 7, 7, 2):
        await deliver(world, number, event_id=f"e{number}")
    async with world.running(DESK, only=only_consumers):
        await taken(world, 3)
    assert await world.taken() == [1, 2, 7]
    await nothing_left(world)


async def test_two_publishers_that_number_alike_do_not_hide_each_others_events(
    world: World,
) -> None:
    async with world.running(DESK, only=only_consumers):
        for user in ("erp", "web"):
            body = json.dumps({"idempotency_key": "1", "account": "service", "subject": user})
            await world.publish(
                user, "mail.send", body.encode(), message_id="1", type="mail.send", user_id=user
            )
        await taken(world, 2)
    assert await world.count(CONSUMED) == 2


async def test_two_replicas_handle_each_event_once(world: World) -> None:
    async with world.running(SHOP), world.running(DESK), world.running(DESK):
        await world.place(*(OrderPlaced(number=number) for number in range(400)))
        await taken(world, 400)
    assert await world.taken() == list(range(400))


GOOD = {"message_id": "e1", "type": "order.placed", "user_id": "shop"}


@pytest.mark.parametrize(
    ("properties", "body", "reason"),
    [
        (GOOD | {"type": "order.paid"}, order(1), "type 'order.paid'"),
        (GOOD | {"type": None}, order(1), "type ''"),
        (GOOD | {"user_id": None}, order(1), "no proven publisher"),
        (GOOD, b"{no json", "Invalid JSON"),
        (GOOD, b"", "Invalid JSON"),
        (GOOD, b'{"number": "seven", "size": 3}', "number: "),
        (GOOD, b'{"number": 1, "size": "big"}', "its body belongs to 'order.placed.big'"),
        (GOOD, b'{"number": 1, "note": "' + b"x" * 20_000_000 + b'"}', "body of 20000025 bytes"),
        (GOOD | {"message_id": "e\x001"}, b"{", "Invalid JSON"),
        (GOOD | {"headers": {"h": "a\x00b"}}, b"{", "Invalid JSON"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:40],
)
async def test_what_is_no_event_of_its_queue_is_parked_at_once_and_the_next_passes(
    world: World, properties: dict[str, Any], body: bytes, reason: str
) -> None:
    await world.publish("shop", "order.placed.small", body, **properties)
    await deliver(world, 2)
    async with world.running(DESK, only=only_consumers):
        await taken(world, 1)
        (row,) = await parked(world)
    assert reason in row.reason
    assert row.body == body
    assert await world.taken() == [2]
    await nothing_left(world)


async def test_a_message_without_event_id_is_parked_under_the_hash_of_its_bytes(
    world: World,
) -> None:
    for _ in range(2):
        await world.publish_frames(
            "shop", "order.placed.small", order(1), message_type="order.placed", user_id="shop"
        )
    await deliver(world, 2)
    async with world.running(DESK, only=only_consumers):
        await taken(world, 1)
    (row,) = await parked(world)
    assert "no event id" in row.reason
    assert row.event_id == f"sha256:{hashlib.sha256(order(1)).hexdigest()}"
    assert row.last_at > row.first_at


@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_a_publisher_that_reaches_a_foreign_queue_by_copy_is_parked_there(
    world: World, header: str
) -> None:
    """RabbitMQ asks the topic permission for the first key alone."""
    await world.publish(
        "erp",
        "mail.send",
        order(66),
        headers={header: ["order.placed.small"]},
        message_id="e1",
        type="order.placed",
        user_id="erp",
    )
    async with world.running(DESK, only=only_consumers):
        rows = await parked(world, 2)
    by_queue = {row.queue: row for row in rows}
    assert by_queue[ORDERS].publisher == "erp"
    assert by_queue[ORDERS].reason.startswith("routing key")
    assert await world.taken() == []


async def test_a_retry_of_a_user_who_is_not_the_service_is_parked(world: World) -> None:
    """Not even who may write to its retry exchange is believed to be the service."""
    admin = world.broker.server.user
    headers = {"publisher": "shop", "routing_key": "order.placed.small", "tries": 0}
    await world.publish(
        admin, ORDERS, order(66), "desk.retry", headers=headers, **GOOD | {"user_id": admin}
    )
    async with world.running(DESK, only=only_consumers):
        (row,) = await parked(world)
    assert "only 'desk' may" in row.reason
    assert row.publisher == admin
    assert await world.taken() == []


async def test_the_publisher_of_a_wrong_command_is_told_each_wrong_field_once(world: World) -> None:
    body = b'{"idempotency_key": "k1", "account": "service", "to": "a@b.c"}'
    async with world.running(DESK, only=only_consumers):
        for _ in range(2):
            await world.publish(
                "erp",
                "mail.send",
                body,
                message_id="e1",
                type="mail.send",
                user_id="erp",
                correlation_id="c1",
            )
        await deliver(world, 1)
        await taken(world, 1)
        (row,) = await parked(world)
        await until(lambda: all_ready(world))
    rejected = [row for row in await world.rows(OUTBOX) if row.type == "mail.rejected"]
    assert len(rejected) == 1
    told = json.loads(rejected[0].body)
    assert (told["publisher"], told["event_id"]) == ("erp", "e1")
    assert [error["field"] for error in told["errors"]] == ["to"]
    assert rejected[0].correlation_id == "c1"
    assert (row.queue, row.body) == (MAILS, body)


async def all_ready(world: World) -> bool:
    return (await world.ready(MAILS))[0] == 0


async def test_a_stranger_who_sends_no_command_of_his_own_is_not_answered(world: World) -> None:
    await world.publish("erp", "mail.send", b"{", message_id="e1", type="mail.send")
    async with world.running(DESK, only=only_consumers):
        (row,) = await parked(world)
    assert "no proven publisher" in row.reason
    assert await world.count(OUTBOX) == 0


async def test_consumers_have_a_prefetch_limit_since_there_is_none_by_default(
    world: World, rabbitmq: local.Servers
) -> None:
    """Default overridden: RabbitMQ would hand over all that is queued, and a kill count for all."""
    async with world.running(DESK, only=only_consumers, batch=30):
        # The first consumer takes one at a time, until something new comes.
        await deliver(world, 1)
        await taken(world, 1)

        async def limits() -> bool:
            return await _prefetch(world, rabbitmq) == {ORDERS: 60, MAILS: 1}

        await until(limits)


async def _prefetch(world: World, rabbitmq: local.Servers) -> dict[str, int]:
    columns = ("queue_name", "prefetch_count", "--formatter", "json")
    command = ("list_consumers", "-p", world.broker.vhost, *columns)
    shown = json.loads(await asyncio.to_thread(local.rabbitmqctl, rabbitmq, *command))
    return {each["queue_name"]: each["prefetch_count"] for each in shown}


async def test_the_log_has_one_line_for_each_message_with_its_ids_and_none_of_its_words(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 1, event_id="e1")
        await deliver(world, 2, event_id="e2", note="park")
        await deliver(world, 3, event_id="e3", note="bug")
        await taken(world, 1)
        await parked(world)

        async def put_off() -> bool:
            return await world.count(OUTBOX) == 2

        await until(put_off)
    lines = [line for line in capsys.readouterr().out.splitlines() if "event_id=e" in line]
    outcomes = {line.split("event_id=")[1][:2]: line.split("]")[1].split()[0] for line in lines}
    assert outcomes == {"e1": "handled", "e2": "parked", "e3": "retried"}
    assert len(lines) == 3
    assert all("queue=desk.order.placed" in line and " ms=" in line for line in lines)


def test_a_service_with_another_broker_user_is_refused_before_anything_starts() -> None:
    settings = DESK.settings.model_validate(
        {"database_url": "postgresql://x/y", "broker_url": "amqp://guest:secret@h/v"}
    )
    with pytest.raises(SettingsRefused, match=r"MAILROOM_DESK_BROKER_URL.*'guest'.*'desk'") as told:
        consume.broker_for(DESK, settings)
    assert "secret" not in str(told.value)


def test_a_service_says_which_queues_must_be_there() -> None:
    assert consume.queues(DESK) == [ORDERS, MAILS, "dead.desk"]
