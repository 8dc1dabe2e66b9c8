"""What happens to what is in hand when the database, the broker or the service itself goes away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy import local
from mailroom.messaging import consume
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.messaging.stopping import end_if_cancelled, to_its_end
from mailroom.service import Resources, Service, Subscription
from tests.messaging.cable import Cable, cable
from tests.messaging.conftest import declare
from tests.messaging.test_consume import deliver, nothing_left, only_consumers, taken
from tests.messaging.world import (
    DESK,
    ORDERS,
    OrderPlaced,
    World,
    desk_messaging,
    take_orders,
)
from tests.waiting import until

CONSUMED, PARKED, OUTBOX = desk_messaging.consumed, desk_messaging.parked, desk_messaging.outbox

Before = Callable[[AsyncConnection, Sequence[Received[OrderPlaced]]], Awaitable[None]]


def desk_that(does: Before) -> Service[Any]:
    """Desk, doing something after its handler's own work, before the commit."""

    async def handler(
        tx: AsyncConnection, events: Sequence[Received[OrderPlaced]], resources: Resources[Any]
    ) -> Sequence[Outgoing]:
        outgoing = await take_orders(tx, events, resources)
        await does(tx, events)
        return outgoing

    return replace(DESK, subscriptions=(Subscription(OrderPlaced, handler),))


@asynccontextmanager
async def on_a_cable(world: World) -> AsyncIterator[tuple[World, Cable]]:
    """The world, with a cable to the broker."""
    server = world.broker.server
    async with cable(server.host, server.port) as to_broker:
        behind = replace(world.broker, server=replace(server, port=to_broker.port))
        yield replace(world, broker=behind), to_broker


async def as_superuser(world: World, statement: str) -> None:
    writes = {"default_transaction_read_only": "off"}
    connection = await asyncpg.connect(world.database.superuser_url, server_settings=writes)
    await connection.execute(statement)
    await connection.close()


END_DESKS_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'desk' AND datname = current_database()"
)


async def test_a_connection_that_the_database_ends_costs_no_event_and_doubles_none(
    world: World,
) -> None:
    once: list[int] = []

    async def ended(tx: AsyncConnection, _: object) -> None:
        if not once:
            once.append(1)
            await as_superuser(world, END_DESKS_CONNECTIONS)

    for number in range(20):
        await deliver(world, number)
    async with world.running(desk_that(ended), only=only_consumers):
        await taken(world, 20)
    assert once
    assert await world.taken() == list(range(20))
    assert await world.count(PARKED) == await world.count(OUTBOX) - 20 == 0
    await nothing_left(world)


def given_back() -> float:
    labels = {"queue": ORDERS, "outcome": "given_back"}
    return REGISTRY.get_sample_value("mailroom_events_total", labels) or 0


async def test_while_the_database_takes_no_rows_nothing_is_in_hand_and_then_all_goes_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A standby after a failover answers `SELECT 1`, and refuses each write with 25006."""
    name, before = world.database.name, given_back()
    for number in range(20):
        await deliver(world, number)
    await as_superuser(world, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with world.running(DESK, only=only_consumers):

        async def let_go() -> bool:
            return await world.ready(ORDERS) == (20, 0)

        await until(let_go)
        said = ""

        def looked_twice() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return said.count("25006") >= 3

        await until(looked_twice)
        # A consumer that came back meanwhile would count against the event each time.
        assert given_back() == before + 1
        assert await let_go()
        await as_superuser(world, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await as_superuser(world, END_DESKS_CONNECTIONS)
        await taken(world, 20)
    assert await world.taken() == list(range(20))
    assert await world.count(PARKED) == 0
    await nothing_left(world)


async def test_what_was_committed_but_not_acknowledged_comes_again_and_is_not_handled_twice(
    world: World,
) -> None:
    async with on_a_cable(world) as (behind, to_broker):
        handled: list[int] = []

        async def cut(tx: AsyncConnection, events: Sequence[Received[OrderPlaced]]) -> None:
            handled.extend(each.event.number for each in events)
            if len(handled) == len(events):
                to_broker.cut()

        for number in range(5):
            await deliver(world, number)
        async with behind.running(desk_that(cut), only=only_consumers):
            await until(lambda: handled)

            async def committed() -> bool:
                return await world.count(CONSUMED) >= 1

            await until(committed)
            await to_broker.mend()
            await taken(world, 5)

            async def all_acknowledged() -> bool:
                return (await world.ready(ORDERS))[0] == 0

            await until(all_acknowledged, within=20)
    assert sorted(handled) == list(range(5))
    assert await world.taken() == list(range(5))
    await nothing_left(world)


async def test_a_broker_that_was_away_is_consumed_from_again(world: World) -> None:
    async with (
        on_a_cable(world) as (behind, to_broker),
        behind.running(DESK, only=only_consumers),
    ):
        await deliver(world, 1)
        await taken(world, 1)
        to_broker.cut()
        await deliver(world, 2)
        await to_broker.mend()
        await taken(world, 2)
    await nothing_left(world)


async def test_a_queue_that_was_deleted_and_declared_again_is_consumed_from_again(
    world: World, rabbitmq: local.Servers
) -> None:
    """Declared again at once, RabbitMQ 3.10.8 delivers to a consumer that it has not cancelled."""

    async def cancelled() -> bool:
        command = ("list_consumers", "-p", world.broker.vhost, "queue_name")
        return ORDERS not in await asyncio.to_thread(local.rabbitmqctl, rabbitmq, *command)

    async with world.running(DESK, only=only_consumers):
        await deliver(world, 1)
        await taken(world, 1)
        await world.delete(ORDERS)
        await until(cancelled)
        await declare(world.broker)
        await deliver(world, 2)
        await taken(world, 2)


async def test_a_batch_in_hand_is_committed_and_acknowledged_when_the_service_is_stopped(
    world: World,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(tx: AsyncConnection, _: object) -> None:
        begun.set()
        await go_on.wait()

    await deliver(world, 1)
    async with world.running(desk_that(wait), only=only_consumers):
        async with asyncio.timeout(10):
            await begun.wait()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
    assert await world.taken() == [1]
    await nothing_left(world)


async def test_a_batch_that_does_not_end_is_given_back_within_seconds(world: World) -> None:
    await deliver(world, 1, note="forever")
    await deliver(world, 2)
    async with world.running(DESK, only=only_consumers):

        async def in_hand() -> bool:
            return (await world.ready(ORDERS))[0] < 2

        await until(in_hand)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 9
    assert await world.taken() == []
    assert (await world.ready(ORDERS))[0] == 2


async def test_a_handler_that_hangs_is_ended_and_its_event_put_off_while_others_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "HANDLE_WITHIN", 0.5)
    await deliver(world, 1, note="forever")
    await deliver(world, 2)
    async with world.running(DESK, only=only_consumers):
        await taken(world, 1)

        async def put_off() -> bool:
            return any(row.event_id for row in await world.rows(OUTBOX) if row.headers)

        await until(put_off)
    assert await world.taken() == [2]
    await nothing_left(world)


async def test_work_that_ends_in_time_is_not_disturbed_by_the_cancellation_it_delays() -> None:
    done: list[str] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.append("work")

    task = asyncio.create_task(to_its_end(work(), within=5))
    await begun.wait()
    task.cancel()
    ended, _ = await asyncio.wait({task}, timeout=0.05)
    assert not ended
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work"]


async def test_work_that_does_not_end_in_time_is_cancelled_too() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(to_its_end(work(), within=0.05))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancellation_that_a_library_swallows_still_ends_the_loop() -> None:
    """As `asyncio.wait_for` does before Python 3.12, when the result comes at the same moment."""

    begun = asyncio.Event()

    async def loop() -> None:
        while True:
            end_if_cancelled()
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await to_its_end(work(), within=5)
