"""A consumer is killed where an event did not just pass: retried, parked, refused, dead."""

import asyncio
from datetime import timedelta
from signal import SIGKILL
from typing import Any

from sqlalchemy import Table

from mailroom import clock as mailroom_clock
from mailroom.messaging import outbox
from mailroom.messaging.envelope import Outgoing
from tests.messaging.clock import Clock
from tests.messaging.test_commands import mailroom
from tests.messaging.test_consume import deliver, nothing_left, only_consumers, parked, taken
from tests.messaging.test_dead import exhaust
from tests.messaging.test_parked import FULL
from tests.messaging.world import (
    DESK,
    MAILS,
    ORDERS,
    OrderShipped,
    World,
    desk_messaging,
    orders,
)
from tests.waiting import until

OUTBOX, SENT, PARKED = desk_messaging.outbox, desk_messaging.outbox_sent, desk_messaging.parked
BUSY = (
    "sql DO $$ BEGIN IF NOT EXISTS (SELECT FROM desk.orders WHERE number = 99)"
    " THEN RAISE 'not yet' USING ERRCODE = '40001'; END IF; END $$"
)
"""Fails, for now, until order 99 is there."""


async def killed_at(installation: dict[str, str], crashpoint: str, *words: str) -> None:
    """`mailroom WORDS` dies there; `serve desk` if there are none."""
    armed = installation | {"MAILROOM_CRASHPOINT": crashpoint}
    ended = mailroom(armed, *(words or ("serve", "desk")))
    code, said, _ = await asyncio.wait_for(ended, 60)
    assert code == -SIGKILL, said


async def add_order_99(world: World) -> None:
    async with world.look(orders).begin() as tx:
        await tx.execute(orders.insert(), {"number": 99, "note": ""})


async def told(world: World, name: str) -> list[Any]:
    """The events of this name that desk published, or will."""
    rows = [*await world.rows(OUTBOX), *await world.rows(SENT)]
    return [row for row in rows if row.type == name]


async def emptied(world: World, table: Table) -> None:
    async def empty() -> bool:
        return await world.count(table) == 0

    await until(empty, within=20)


async def test_killed_after_a_retry_was_written_down_the_event_is_handled_once(
    world: World, installation: dict[str, str], clock: Clock
) -> None:
    await deliver(world, 7, event_id="e7", note=BUSY)
    await killed_at(installation, "handler.retry_committed")
    assert [row.event_id for row in await told(world, "order.placed")] == ["e7"]
    await add_order_99(world)
    async with world.running(DESK):
        # It comes again by itself, for it was not acknowledged.
        await taken(world, 2)
        clock.forward(timedelta(minutes=1))
        await emptied(world, OUTBOX)
        await deliver(world, 8)
        await taken(world, 3)
    assert await world.taken() == [7, 8, 99]
    assert len(await told(world, "order.shipped")) == 2
    await nothing_left(world)


async def test_killed_after_an_event_was_parked_it_is_there_once_and_goes_when_it_is_handled(
    world: World, installation: dict[str, str]
) -> None:
    await deliver(world, 7, event_id="e7", note=FULL)
    await killed_at(installation, "handler.park_committed")
    await killed_at(installation, "handler.park_committed")
    (row,) = await parked(world)
    assert (row.event_id, row.last_at > row.first_at) == ("e7", True)
    await add_order_99(world)
    async with world.running(DESK):
        await taken(world, 2)
        await emptied(world, PARKED)
    await nothing_left(world)


async def test_killed_after_a_misfit_was_parked_its_publisher_is_told_once(
    world: World, installation: dict[str, str]
) -> None:
    properties = {"message_id": "e1", "type": "mail.send", "user_id": "erp"}
    await world.publish("erp", "mail.send", b"{}", **properties)
    await killed_at(installation, "handler.misfit_committed")
    await world.publish("erp", "mail.send", b"[]", **properties | {"message_id": "e2"})
    async with world.running(DESK):
        rows = await parked(world, 2)
        await emptied(world, OUTBOX)
    assert sorted(row.event_id for row in rows) == ["e1", "e2"]
    assert len(await told(world, "mail.rejected")) == 2
    await nothing_left(world, MAILS)


async def test_killed_after_a_dead_letter_was_stored_it_is_parked_once(
    world: World, installation: dict[str, str]
) -> None:
    await deliver(world, 7, event_id="e7")
    await exhaust(world, ORDERS)
    await killed_at(installation, "drain.committed@desk")
    assert len(await world.rows(PARKED)) == 1

    async def given_back() -> bool:
        return (await world.ready("dead.desk"))[0] == 1

    await until(given_back)
    async with world.running(DESK):
        await until(lambda: drained(world))
    assert [row.event_id for row in await world.rows(PARKED)] == ["e7"]
    await nothing_left(world, "dead.desk")


async def drained(world: World) -> bool:
    return (await world.ready("dead.desk"))[0] == 0


async def test_killed_between_two_replays_both_are_handled_once_when_it_is_said_again(
    world: World, installation: dict[str, str]
) -> None:
    async with world.running(DESK, only=only_consumers):
        for number in (7, 8):
            await deliver(world, number, note=FULL)
        rows = await parked(world, 2)
    await add_order_99(world)
    replay = ("parked", "replay", *(f"desk:{row.id}" for row in rows))
    await killed_at(installation, "parked.replayed", *replay)
    assert len(await told(world, "order.placed")) == 1
    code, out, err = await mailroom(installation, *replay)
    assert (code, len(await told(world, "order.placed"))) == (2, 2)
    assert out.startswith(f"replayed desk:{rows[1].id}\n")
    assert f"desk:{rows[0].id}" in err
    assert "on its way" in err
    async with world.running(DESK):
        await emptied(world, PARKED)
        await emptied(world, OUTBOX)
    assert await world.taken() == [7, 8, 99]
    await nothing_left(world)


async def test_killed_while_pruning_what_may_be_replayed_is_still_known(
    world: World, installation: dict[str, str]
) -> None:
    long_ago = mailroom_clock.now() - timedelta(days=31)
    async with world.look(SENT).begin() as tx:
        await outbox.add(tx, desk_messaging, [Outgoing(OrderShipped(number=7), "c")])
        await outbox.make_day(tx, desk_messaging, long_ago)
        ids = [row.id for row in await outbox.claim(tx, desk_messaging, mailroom_clock.now(), 9)]
        await outbox.move_to_sent(tx, desk_messaging, ids, long_ago)
        id_ = {"queue": ORDERS, "publisher": "shop", "event_id": "e7", "consumed_at": long_ago}
        await tx.execute(desk_messaging.consumed.insert(), id_)
    await killed_at(installation, "prune.days_dropped@desk")
    assert (await world.count(SENT), await world.count(desk_messaging.consumed)) == (0, 1)
