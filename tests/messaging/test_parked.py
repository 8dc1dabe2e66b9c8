"""Parked events: kept once, replayed as they came, gone when they are handled."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from mailroom import clock as mailroom_clock
from mailroom.messaging import parked as parked_events
from mailroom.messaging.admission import Origin
from mailroom.messaging.parked import NotParked, OnItsWay, Which, Why
from tests.messaging.test_admission import GOOD
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
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
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


async def parked_for(world: World, reasons: Sequence[str]) -> None:
    """An event for each reason, e0, e1 …, a second apart."""
    async with world.look(PARKED).begin() as tx:
        for at, reason in enumerate(reasons):
            given = replace(GOOD, event_id=f"e{at}", queue=ORDERS)
            moment = NOON + timedelta(seconds=at)
            several = [(given, Origin("shop", "order.placed.small"), Why(reason))]
            await parked_events.park_many(tx, desk_messaging, several, moment)


async def ids_of(world: World, which: Which, limit: int = 10, skip: int = 0) -> list[str]:
    async with world.look(PARKED).connect() as tx:
        rows = await parked_events.latest(tx, desk_messaging, which, limit, skip)
    return [row.event_id for row in rows]


async def test_the_list_shows_the_latest_last_page_by_page(world: World) -> None:
    await parked_for(world, ["why"] * 5)
    assert await ids_of(world, Which(), limit=2) == ["e3", "e4"]
    assert await ids_of(world, Which(), limit=2, skip=2) == ["e1", "e2"]
    assert await ids_of(world, Which(), limit=2, skip=4) == ["e0"]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Which(reason="TIMED"), ["e0", "e1"]),
        (Which(reason="mail … timed"), ["e0", "e1"]),
        (Which(reason="mail 12*out"), ["e0"]),
        (Which(reason="100 %"), ["e3"]),
        (Which(reason="mail _ timed"), []),
        (Which(queue=ORDERS, reason="disk"), ["e2"]),
        (Which(queue="desk.other"), []),
    ],
)
async def test_parked_events_are_chosen_by_queue_and_by_words_of_their_reason(
    world: World, which: Which, found: list[str]
) -> None:
    reasons = ["mail 12ab34cd-0000 timed out", "mail 7 timed out", "the disk is full", "at 100 %"]
    await parked_for(world, reasons)
    assert await ids_of(world, which) == found
    async with world.look(PARKED).connect() as tx:
        assert await parked_events.count(tx, desk_messaging, which) == len(found)


async def test_reasons_that_differ_in_numbers_and_ids_alone_are_counted_as_one(
    world: World,
) -> None:
    hashes = ["ab" * 32, "01" * 32]
    reasons = [f"tried {at} times: object {each} is missing" for at, each in enumerate(hashes)]
    await parked_for(world, [*reasons, "the disk is full"])
    async with world.look(PARKED).connect() as tx:
        rows = await parked_events.reasons(tx, desk_messaging, Which())
    assert [(row.reason, row.events) for row in rows] == [
        ("tried … times: object … is missing", 2),
        ("the disk is full", 1),
    ]
    assert await ids_of(world, Which(reason=rows[0].reason)) == ["e0", "e1"]


async def test_of_many_only_the_chosen_are_replayed_each_once_and_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked_events, "CHUNK", 2)
    await parked_for(world, ["for now"] * 5 + ["for good"] * 3)
    later = NOON + timedelta(hours=1)

    async def replayed(which: Which) -> list[int]:
        after = 0
        sizes: list[int] = []
        while True:
            async with world.look(PARKED).begin() as tx:
                ids = await parked_events.replay_some(
                    tx, desk_messaging, "desk", which, after, later
                )
            if not ids:
                return sizes
            sizes.append(len(ids))
            after = ids[-1]

    assert await replayed(Which(reason="for now")) == [2, 2, 1]
    assert await replayed(Which(reason="for now")) == []
    assert await replayed(Which(reason="for now", again=True)) == [2, 2, 1]
    rows = await world.rows(desk_messaging.outbox)
    assert [row.event_id for row in rows] == [f"e{at}" for at in range(5)] * 2
    assert [row.due - later for row in rows[:3]] == [
        timedelta(),
        timedelta(milliseconds=5),
        timedelta(),  # of the next chunk
    ]
    async with world.look(PARKED).begin() as tx:
        good = Which(reason="for good")
        gone = [await parked_events.drop_some(tx, desk_messaging, good) for _ in range(3)]
    assert gone == [2, 1, 0]
    assert await world.count(PARKED) == 5
