"""The outbox as a table: what is in it, what leaves it, and for where."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from mailroom import clock as mailroom_clock
from mailroom.messaging import outbox
from mailroom.messaging.consumed import KEPT_BEYOND_RETENTION
from mailroom.messaging.envelope import Outgoing
from mailroom.messaging.pruning import prune_once
from mailroom.settings import ServiceSettings
from tests.messaging.clock import Clock
from tests.messaging.world import (
    SHOP,
    OrderCancel,
    OrderPlaced,
    World,
    desk_messaging,
    shop_messaging,
)

SENT = shop_messaging.outbox_sent


async def send_all(world: World, moment: datetime) -> None:
    """What a relay writes when everything was confirmed at `moment`."""
    async with world.resources(SHOP).engine.begin() as tx:
        rows = await outbox.claim(tx, shop_messaging, moment, 1000)
        await outbox.make_day(tx, shop_messaging, moment)
        await outbox.move_to_sent(tx, shop_messaging, [row.id for row in rows], moment)


async def days(world: World) -> list[str]:
    query = text(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'shop.outbox_sent'::regclass ORDER BY 1"
    )
    async with world.resources(SHOP).engine.connect() as tx:
        return [name.removeprefix("shop.outbox_sent_") for name in await tx.scalars(query)]


async def test_an_event_is_written_with_its_bytes_and_a_command_is_mandatory(world: World) -> None:
    await world.place(OrderPlaced(number=1, size="big"), OrderCancel(number=2))
    placed, cancel = await world.rows(shop_messaging.outbox)
    assert (placed.exchange, placed.routing_key, placed.type) == (
        "mailroom",
        "order.placed.big",
        "order.placed",
    )
    assert placed.body == b'{"number":1,"size":"big","note":""}'
    assert placed.correlation_id == "order-0"
    assert (placed.mandatory, cancel.mandatory) == (False, True)


async def test_what_rolls_back_is_never_there(world: World) -> None:
    async with world.resources(SHOP).engine.connect() as tx:
        await outbox.add(tx, shop_messaging, [Outgoing(OrderPlaced(number=1), "c")])
        await tx.rollback()
    assert await world.count(shop_messaging.outbox) == 0


async def test_a_row_is_claimed_by_one_and_passed_by_by_the_other(world: World) -> None:
    await world.place(*(OrderPlaced(number=number) for number in range(4)))
    moment = mailroom_clock.now()
    engine = world.resources(SHOP).engine
    async with engine.begin() as first, engine.begin() as second:
        one = await outbox.claim(first, shop_messaging, moment, 2)
        other = await outbox.claim(second, shop_messaging, moment, 10)
    assert [row.body for row in one] + [row.body for row in other] == [
        OrderPlaced(number=number).model_dump_json().encode() for number in range(4)
    ]


async def test_a_row_is_claimed_when_it_is_due_and_not_before(world: World, clock: Clock) -> None:
    engine, due = world.resources(SHOP).engine, mailroom_clock.now() + timedelta(hours=1)
    async with engine.begin() as tx:
        await outbox.add(tx, shop_messaging, [Outgoing(OrderPlaced(number=1), "c", due=due)])
    async with engine.begin() as tx:
        assert not await outbox.claim(tx, shop_messaging, mailroom_clock.now(), 10)
        clock.forward(timedelta(hours=1))
        assert await outbox.claim(tx, shop_messaging, mailroom_clock.now(), 10)


async def test_each_service_is_told_of_its_own_events_alone(world: World) -> None:
    assert outbox.channel(shop_messaging) != outbox.channel(desk_messaging)
    told = asyncio.Event()
    async with world.resources(SHOP).engine.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        await raw.add_listener(outbox.channel(shop_messaging), lambda *_: told.set())
        await world.place(OrderPlaced(number=1))
        async with asyncio.timeout(5):
            await told.wait()
        await raw.reset()


async def test_what_was_sent_lies_unchanged_in_the_partition_of_its_day(world: World) -> None:
    (id_,) = await world.place(OrderPlaced(number=1))
    (before,) = await world.rows(shop_messaging.outbox)
    await send_all(world, mailroom_clock.now())
    (after,) = await world.rows(SENT)
    assert await world.count(shop_messaging.outbox) == 0
    assert after.event_id == id_
    assert (after.id, after.body, after.created_at) == (before.id, before.body, before.created_at)
    assert await days(world) == [after.sent_at.strftime("%Y%m%d")]


async def test_days_begin_at_midnight_utc_wherever_the_server_is(world: World) -> None:
    for hour, number in ((23, 1), (0, 2)):
        moment = datetime(2031, 6, 1, hour, 30, tzinfo=UTC) + timedelta(days=hour == 0)
        await world.place(OrderPlaced(number=number))
        async with world.resources(SHOP).engine.begin() as tx:
            await tx.execute(text("SET TIME ZONE 'America/Los_Angeles'"))
            rows = await outbox.claim(tx, shop_messaging, moment, 10)
            await outbox.make_day(tx, shop_messaging, moment)
            await outbox.move_to_sent(tx, shop_messaging, [row.id for row in rows], moment)
    assert await days(world) == ["20310601", "20310602"]


async def test_a_service_may_make_and_drop_days_but_no_other_table(world: World) -> None:
    engine = world.resources(SHOP).engine
    for forbidden in ("CREATE TABLE shop.mine ()", "DROP TABLE shop.outbox_sent"):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            async with engine.begin() as tx:
                await tx.execute(text(forbidden))
    moment = mailroom_clock.now()
    async with engine.begin() as tx:
        await outbox.make_day(tx, shop_messaging, moment)
        await outbox.make_day(tx, shop_messaging, moment)
    assert len(await days(world)) == 1


async def test_the_functions_that_run_as_the_owner_have_a_fixed_search_path_and_no_public(
    world: World,
) -> None:
    query = text(
        "SELECT prosecdef, proconfig, has_function_privilege('mailroom_desk', oid, 'EXECUTE')"
        " FROM pg_proc WHERE pronamespace = 'shop'::regnamespace"
    )
    async with world.resources(SHOP).engine.connect() as tx:
        found = (await tx.execute(query)).all()
    assert len(found) == 2
    for is_definer, settings, others_may in found:
        assert is_definer
        assert settings == ["search_path=pg_catalog, pg_temp"]
        assert not others_may


async def test_replicas_that_make_the_same_day_at_once_make_it_once(world: World) -> None:
    engine, moment = world.resources(SHOP).engine, datetime(2031, 1, 1, tzinfo=UTC)

    async def make() -> None:
        async with engine.begin() as tx:
            await outbox.make_day(tx, shop_messaging, moment)

    await asyncio.gather(*(make() for _ in range(8)))
    assert await days(world) == ["20310101"]


async def test_days_are_dropped_after_the_retention_and_not_before(world: World) -> None:
    now = mailroom_clock.now()
    for age in (0, 29, 31):
        await world.place(OrderPlaced(number=age), OrderPlaced(number=age))
        # Events of that day, and of no other.
        await send_all_as_of(world, now - timedelta(days=age))
    assert len(await days(world)) == 3
    await prune_once(world.resources(SHOP, retention_days=30), now)
    kept = [now - timedelta(days=29), now]
    assert await days(world) == [day.strftime("%Y%m%d") for day in kept]


async def send_all_as_of(world: World, moment: datetime) -> None:
    async with world.resources(SHOP).engine.begin() as tx:
        ids = (await tx.scalars(select(shop_messaging.outbox.c.id))).all()
        await outbox.make_day(tx, shop_messaging, moment)
        await outbox.move_to_sent(tx, shop_messaging, ids, moment)


async def test_consumed_ids_outlive_the_events_that_can_be_replayed(world: World) -> None:
    now = mailroom_clock.now()
    resources = world.resources(SHOP, retention_days=30)
    async with resources.engine.begin() as tx:
        for age in (31, 89, 91):
            await tx.execute(
                shop_messaging.consumed.insert(),
                {
                    "queue": "q",
                    "publisher": "p",
                    "event_id": str(age),
                    "consumed_at": now - timedelta(days=age),
                },
            )
    await prune_once(resources, now)
    left = {row.event_id for row in await world.rows(shop_messaging.consumed)}
    assert left == {"31", "89"}


def test_no_event_can_be_kept_for_longer_than_its_id_is_known_anywhere() -> None:
    longest = KEPT_BEYOND_RETENTION.days
    addresses = {"database_url": "postgresql://a@b/c", "broker_url": "amqp://a@b/c"}
    settings = ServiceSettings.model_validate({**addresses, "retention_days": longest})
    assert settings.retention_days == longest
    for days in (0, longest + 1):
        with pytest.raises(ValidationError, match="retention_days"):
            ServiceSettings.model_validate({**addresses, "retention_days": days})


async def test_an_event_that_is_replayed_month_after_month_is_not_when_its_id_may_be_forgotten(
    world: World,
) -> None:
    """Each replay keeps it for another month, while consumers count from when they first had it."""
    now = mailroom_clock.now()
    await world.place(OrderPlaced(number=1))
    await send_all_as_of(world, now)
    again = []
    for month in range(1, 5):
        later = now + month * timedelta(days=29)
        async with world.resources(SHOP).engine.begin() as tx:
            count = await outbox.republish(tx, shop_messaging, now, (), later)
        await send_all_as_of(world, later)
        again.append(count)
    assert again == [1, 1, 0, 0]


async def test_published_events_are_had_again_with_the_same_ids_since_a_time_and_by_name(
    world: World,
) -> None:
    now = mailroom_clock.now()
    await world.place(OrderPlaced(number=1))
    await send_all_as_of(world, now - timedelta(days=2))
    ids = await world.place(OrderPlaced(number=2), OrderCancel(number=3), OrderPlaced(number=4))
    await send_all_as_of(world, now)
    async with world.resources(SHOP).engine.begin() as tx:
        since = now - timedelta(days=1)
        count = await outbox.republish(tx, shop_messaging, since, ["order.placed"], now)
    rows = await world.rows(shop_messaging.outbox)
    assert count == 2
    assert {row.event_id for row in rows} == {ids[0], ids[2]}
    assert {row.body for row in rows} == {
        OrderPlaced(number=number).model_dump_json().encode() for number in (2, 4)
    }


async def test_many_that_are_had_again_are_paced_so_that_what_is_new_need_not_wait(
    world: World,
) -> None:
    now = mailroom_clock.now()
    await world.place(*(OrderPlaced(number=number) for number in range(401)))
    for _ in range(3):
        await send_all_as_of(world, now)
    async with world.resources(SHOP).engine.begin() as tx:
        assert await outbox.republish(tx, shop_messaging, now, [], now) == 401
    due = sorted(row.due for row in await world.rows(shop_messaging.outbox))
    assert [due[at] - now for at in (0, 1, 200, 400)] == [
        timedelta(seconds=seconds) for seconds in (0, 0.005, 1, 2)
    ]
    assert due[-1] == outbox.last_due(now, 401)


async def test_what_was_replayed_before_is_replayed_once(world: World) -> None:
    now = mailroom_clock.now()
    await world.place(OrderPlaced(number=1))
    for _ in range(2):
        await send_all_as_of(world, now)
        async with world.resources(SHOP).engine.begin() as tx:
            assert await outbox.republish(tx, shop_messaging, now, [], now) == 1
    async with world.resources(SHOP).engine.connect() as tx:
        distinct = func.count(shop_messaging.outbox.c.event_id.distinct())
        assert (await tx.execute(select(distinct))).scalar_one() == 1
