"""A clock that jumps loses no published event, and holds up nothing for longer than the jump."""

from datetime import UTC, datetime, timedelta

import pytest

from mailroom import clock as mailroom_clock
from mailroom.messaging import outbox
from mailroom.messaging.pruning import prune_once
from tests.messaging.clock import Clock
from tests.messaging.test_consume import taken
from tests.messaging.world import DESK, SHOP, OrderPlaced, World, shop_messaging
from tests.waiting import NotInTime, until

MIDNIGHT = datetime(2024, 5, 7, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_a_clock_that_is_put_back_over_midnight_keeps_every_published_event(
    world: World,
) -> None:
    moments = [MIDNIGHT + 10 * MINUTE, MIDNIGHT - 50 * MINUTE, MIDNIGHT + 20 * MINUTE]
    shop = world.resources(SHOP)
    for number, moment in enumerate(moments):
        await world.place(OrderPlaced(number=number))
        async with shop.engine.begin() as tx:
            rows = await outbox.claim(tx, shop_messaging, mailroom_clock.now() + MINUTE, 10)
            await outbox.make_day(tx, shop_messaging, moment)
            await outbox.move_to_sent(tx, shop_messaging, [row.id for row in rows], moment)
        await prune_once(shop, moment)
    sent = await world.rows(shop_messaging.outbox_sent)
    assert sorted(row.sent_at for row in sent) == sorted(moments)


async def test_what_waits_when_the_clock_is_put_back_is_late_by_the_jump_at_most(
    world: World, clock: Clock
) -> None:
    clock.forward(timedelta())
    await world.place(OrderPlaced(number=1))
    clock.forward(-HOUR)
    async with world.running(SHOP), world.running(DESK):
        await world.place(OrderPlaced(number=2))
        await taken(world, 1)
        assert await world.taken() == [2], "what is new does not wait behind it"
        clock.forward(HOUR)
        await taken(world, 2)
    assert await world.taken() == [1, 2]


async def test_what_falls_due_is_not_published_twice_when_the_clock_jumps_forward_and_back(
    world: World, clock: Clock
) -> None:
    clock.forward(timedelta())
    async with world.running(SHOP), world.running(DESK):
        for number, jump in enumerate([HOUR, -HOUR, HOUR, -HOUR]):
            clock.forward(jump)
            await world.place(OrderPlaced(number=number))
        clock.forward(HOUR)
        await taken(world, 4)

        async def another() -> bool:
            return len(await world.taken()) > 4

        with pytest.raises(NotInTime):
            await until(another, within=2)
    assert await world.taken() == [0, 1, 2, 3]
    assert len(await world.rows(shop_messaging.outbox_sent)) == 4
