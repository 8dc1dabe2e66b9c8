"""Parked events: kept once, replayed as they came, gone when they are handled."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from mailroom import clock as mailroom_clock
from mailroom.messaging import parked as parked_events
from mailroom.messaging.parked import NotParked, OnItsWay, Which
from tests.messaging.test_consume import (
    deliver,
    nothing_left,
    only_consumers,
    order,
    parked,
    taken,
)
from tests.messaging.world import DESK, ORDERS, World, desk_messaging, orders
from tests.waiting import until

PARKED = desk_messaging.parked
FULL = "sql SELECT 1 / count(*)::int FROM desk.orders WHERE number = 99"
"""Fails until order 99 is there."""


async def replay(world: World, id_: int, *, again: bool = False) -> None:
    async with world.look(PARKED).begin() as tx:
        moment = mailroom_clock.now()
        await parked_events.replay(tx, desk_messaging, "desk", id_, moment, again=again)


async def test_a_replayed_event_is_handled_as_it_came_and_leaves_the_parked_ones(
    world: World,
) -> None:
    async with world.running(DESK):
        await deliver(world, 7, event_id="e7", note=FULL)
        (row,) = await parked(world)
        async with world.look(orders).begin() as tx:
            await tx.execute(orders.insert(), {"number": 99, "note": ""})
        await replay(world, row.id)
        await taken(world, 2)

        async def gone() -> bool:
            return await world.count(PARKED) == 0

        await until(gone)
    assert await world.taken() == [7, 99]
    consumed = await world.rows(desk_messaging.consumed)
    assert [(each.publisher, each.event_id) for each in consumed] == [("shop", "e7")]


async def test_an_event_that_is_replayed_twice_on_purpose_is_handled_once(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, event_id="e7", note=FULL)
        (row,) = await parked(world)
    async with world.look(orders).begin() as tx:
        await tx.execute(orders.insert(), {"number": 99, "note": ""})
    await replay(world, row.id)
    await replay(world, row.id, again=True)
    async with world.running(DESK):
        await taken(world, 2)
        await deliver(world, 8)
        await taken(world, 3)
    assert await world.taken() == [7, 8, 99]
    await nothing_left(world)


async def test_of_two_who_replay_at_the_same_moment_the_second_is_told(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, event_id="e7", note=FULL)
        (row,) = await parked(world)
    both = await asyncio.gather(
        replay(world, row.id), replay(world, row.id), return_exceptions=True
    )
    (told,) = [each for each in both if each is not None]
    assert isinstance(told, OnItsWay)
    assert "is on its way since" in str(told)
    assert await world.count(desk_messaging.outbox) == 1
    async with world.look(orders).begin() as tx:
        await tx.execute(orders.insert(), {"number": 99, "note": ""})
    async with world.running(DESK):
        await taken(world, 2)
    with pytest.raises(NotParked):
        await replay(world, row.id)
    assert await world.taken() == [7, 99]


async def test_what_was_replayed_and_failed_for_now_is_on_its_way_still(world: World) -> None:
    async with world.running(DESK):
        await deliver(world, 7, event_id="e7", note="park")
        (row,) = await parked(world)
    async with world.look(PARKED).begin() as tx:
        await tx.execute(PARKED.update().values(body=order(7, note="later")))
    await replay(world, row.id)
    async with world.running(DESK):

        async def retried() -> bool:
            rows = await world.rows(desk_messaging.outbox)
            return any(each.headers["tries"] == 1 for each in rows)

        await until(retried)
    with pytest.raises(OnItsWay):
        await replay(world, row.id)


async def test_a_replayed_event_that_fails_again_stays_parked_with_the_new_time(
    world: World,
) -> None:
    async with world.running(DESK):
        await deliver(world, 7, event_id="e7", note="park")
        (first,) = await parked(world)
        await replay(world, first.id)

        async def parked_again() -> Any:
            (row,) = await world.rows(PARKED)
            return row if row.last_at > first.last_at else None

        again: Any = await until(parked_again)
    assert (again.id, again.first_at) == (first.id, first.first_at)
    assert again.replayed_at is None, "it is no longer on its way"
    assert (again.publisher, again.routing_key) == ("shop", "order.placed.small")


async def test_what_a_stranger_forged_is_parked_again_when_it_is_replayed(world: World) -> None:
    async with world.running(DESK):
        await world.publish(
            "erp",
            "mail.send",
            order(66),
            headers={"CC": ["order.placed.small"]},
            message_id="e1",
            type="order.placed",
            user_id="erp",
        )
        rows = await parked(world, 2)
        (forged,) = [row for row in rows if row.queue == ORDERS]
        await replay(world, forged.id)

        async def parked_again() -> bool:
            rows = await world.rows(PARKED)
            return any(row.id == forged.id and row.last_at > forged.last_at for row in rows)

        await until(parked_again)
    assert await world.taken() == []


async def test_a_message_without_event_id_can_be_replayed_under_the_hash_that_it_is_known_by(
    world: World,
) -> None:
    async with world.running(DESK):
        await world.publish_frames(
            "shop", "order.placed.small", order(7), message_type="order.placed", user_id="shop"
        )
        (row,) = await parked(world)
        await replay(world, row.id)
        await taken(world, 1)
    assert await world.count(PARKED) == 0


async def test_a_dropped_event_is_gone_and_a_missing_one_is_said_to_be(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, note="park")
        (row,) = await parked(world)
    async with world.look(PARKED).begin() as tx:
        assert await parked_events.drop(tx, desk_messaging, row.id) is None
        with pytest.raises(NotParked):
            await parked_events.drop(tx, desk_messaging, row.id)
        with pytest.raises(NotParked):
            await parked_events.show(tx, desk_messaging, row.id)
        moment = mailroom_clock.now()
        with pytest.raises(NotParked):
            await parked_events.replay(tx, desk_messaging, "desk", row.id, moment)


async def test_a_traceback_tells_where_and_what_but_not_the_values_of_statements(
    world: World,
) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, note="sql SELECT CAST('Geheim' AS date)")
        (row,) = await parked(world)
    assert "take_orders" in row.traceback
    assert "[parameters" not in row.traceback
    assert "22007" in row.traceback


async def test_the_list_leaves_out_what_is_long(world: World) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, note="park")
        await parked(world)
    async with world.look(PARKED).connect() as tx:
        (row,) = await parked_events.latest(tx, desk_messaging, Which(), 10)
        assert row.size == len(order(7, note="park"))
        assert not hasattr(row, "body")
        assert (await tx.execute(text("SELECT 1"))).scalar_one() == 1
