import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailroom.contracts import MailSent, ObjectRef
from mailroom.messaging.envelope import Received
from mailroom_router import placing, store
from mailroom_router.mails import Arrival
from mailroom_router.placing import Placed, Told
from tests.router.samples import NOW, SALES, SERVICE, a_rule, a_world, an_arrival
from tests.waiting import until

LATER = NOW + timedelta(days=1)
ONE, OTHER = uuid4(), uuid4()


async def test_a_fingerprint_belongs_to_who_registered_it_first(tx: AsyncConnection) -> None:
    first = await store.know(tx, {"a": ONE, "b": ONE}, NOW)
    assert (first.ids, first.new) == ({"a": ONE, "b": ONE}, frozenset({"a", "b"}))
    second = await store.know(tx, {"b": OTHER, "c": OTHER}, LATER)
    assert (second.ids, second.new) == ({"b": ONE, "c": OTHER}, frozenset({"c"}))


async def test_of_two_replicas_with_one_mail_the_second_waits_and_reads_the_firsts_id(
    engine: AsyncEngine,
) -> None:
    async with engine.connect() as winner, engine.connect() as loser:
        await store.know(winner, {"a": ONE}, NOW)
        waiting = asyncio.create_task(store.know(loser, {"a": OTHER}, NOW))
        await until(lambda: blocked(engine), within=10)
        await winner.commit()
        known = await waiting
        assert (known.ids, known.new) == ({"a": ONE}, frozenset())


async def test_if_the_first_replica_fails_the_seconds_id_holds(engine: AsyncEngine) -> None:
    async with engine.connect() as failing, engine.connect() as other:
        await store.know(failing, {"a": ONE}, NOW)
        waiting = asyncio.create_task(store.know(other, {"a": OTHER}, NOW))
        await until(lambda: blocked(engine), within=10)
        await failing.rollback()
        known = await waiting
        assert (known.ids, known.new) == ({"a": OTHER}, frozenset({"a"}))


async def test_who_waits_for_a_fingerprint_holds_none_behind_it(engine: AsyncEngine) -> None:
    # If it did, two replicas with the same mails in another order could wait for each other.
    async with engine.connect() as one, engine.connect() as other:
        await store.know(one, {"a": ONE}, NOW)
        waiting = asyncio.create_task(store.know(other, {"z": OTHER, "a": OTHER}, NOW))
        await until(lambda: blocked(engine), within=10)
        assert (await store.know(one, {"z": ONE}, NOW)).new == {"z"}
        await one.commit()
        assert (await waiting).ids == {"a": ONE, "z": ONE}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_who_waits_for_a_placement_holds_none_behind_it(
    engine: AsyncEngine, order: tuple[int, int]
) -> None:
    arrivals = [an_arrival(fingerprint=name) for name in ("a", "b")]
    placed = placing.place(arrivals, {"a": ONE, "b": OTHER}, a_world())
    first, last = in_order = sorted(placed, key=lambda one: str(one.placement))
    both = [in_order[index] for index in order]
    async with engine.connect() as one, engine.connect() as other:
        await store.place(one, [first], NOW)
        waiting = asyncio.create_task(store.place(other, both, NOW))
        await until(lambda: blocked(engine), within=10)
        assert await store.place(one, [last], NOW) == {}
        await one.commit()
        assert set(await waiting) == {first.placement, last.placement}


async def test_who_waits_to_register_our_own_mail_holds_none_behind_it(engine: AsyncEngine) -> None:
    async with engine.connect() as one, engine.connect() as other:
        await store.register_own(one, [a_sent(ONE)], ["a"], NOW)
        both = store.register_own(other, [a_sent(OTHER), a_sent(ONE)], ["z", "a"], NOW)
        waiting = asyncio.create_task(both)
        await until(lambda: blocked(engine), within=10)
        await store.register_own(one, [a_sent(OTHER)], ["z"], NOW)
        await one.commit()
        await waiting


async def test_a_copy_named_by_our_sender_takes_over_the_fingerprint(tx: AsyncConnection) -> None:
    await store.know(tx, {"overtook": OTHER}, NOW)
    await store.register_own(tx, [a_sent(ONE), a_sent(OTHER)], ["overtook", "new"], NOW)
    await store.register_own(tx, [a_sent(ONE)], ["overtook"], LATER)
    known = await store.know(tx, {"overtook": uuid4(), "new": uuid4()}, NOW)
    assert (known.ids, known.new) == ({"overtook": ONE, "new": OTHER}, frozenset())


def place_all(*arrivals: Arrival) -> list[Placed]:
    return placing.place(arrivals, {"fingerprint-1": ONE}, a_world())


async def test_a_placement_is_new_once_and_says_later_what_was_told(tx: AsyncConnection) -> None:
    sent, inbox = place_all(an_arrival(role="sent"), an_arrival())
    assert await store.place(tx, [sent], NOW) == {}
    assert await store.place(tx, [inbox], NOW) == {sent.placement: Told("out", spam=False)}
    news = placing.news([inbox], {sent.placement: sent.told})
    await store.record(tx, [inbox], news, [None], NOW)
    assert await store.place(tx, [sent], NOW) == {sent.placement: Told("in", spam=False)}


async def test_the_first_of_two_arrivals_in_a_batch_makes_the_placement(
    tx: AsyncConnection,
) -> None:
    sent, inbox = place_all(an_arrival(role="sent"), an_arrival())
    assert await store.place(tx, [sent, inbox], NOW) == {}
    row = (await tx.execute(select(store.placement))).one()
    assert (row.direction, row.raw) == ("out", sent.arrival.event.raw.sha256)


async def test_each_arrival_keeps_its_decision(tx: AsyncConnection) -> None:
    placed = place_all(an_arrival(), an_arrival())
    news = placing.news(placed, await store.place(tx, placed, NOW))
    await store.record(tx, placed, news, [None, "fingerprint"], NOW)
    await store.record(tx, placed[:1], [None], ["fingerprint"], LATER)  # the event came twice
    rows = (await tx.execute(select(store.arrival).order_by(store.arrival.c.told.desc()))).all()
    assert [(row.told, row.known_by) for row in rows] == [(True, None), (False, "fingerprint")]
    assert rows[0].reason == placed[0].decision.reason
    assert rows[0].correlation_id == placed[0].arrival.received.correlation_id


async def test_a_message_id_of_any_length_is_stored(tx: AsyncConnection) -> None:
    # A B-tree refuses a key above 2,704 bytes, and random text does not compress below it.
    long_id = "".join(str(uuid4()) for _ in range(500))
    (one,) = place_all(an_arrival())
    mail = replace(one.arrival.reading.mail, message_id=long_id)
    arrival = replace(one.arrival, reading=replace(one.arrival.reading, mail=mail))
    await store.record(tx, [replace(one, arrival=arrival)], [None], [None], NOW)


async def test_rules_come_in_the_order_in_which_they_are_asked(tx: AsyncConnection) -> None:
    rules = [
        a_rule("b", position=2, from_pattern="*"),
        a_rule("c", position=1, header_name="X", header_pattern="y", stop=False),
        a_rule("a", SERVICE, position=2, account=uuid4(), enabled=False),
    ]
    for rule in rules:
        await store.write_rule(tx, rule, NOW)
    assert await store.rules(tx) == [rules[1], rules[2], rules[0]]


async def test_a_rule_is_changed_found_and_removed_by_name_in_any_case(tx: AsyncConnection) -> None:
    rule = a_rule("Bills", from_pattern="*")
    await store.write_rule(tx, rule, NOW)
    await store.write_rule(tx, replace(rule, mailbox=SALES.id, from_pattern="a@b"), LATER)
    changed = await store.rule_named(tx, "BILLS")
    assert changed == replace(rule, mailbox=SALES.id, from_pattern="a@b")
    await store.remove_rule(tx, rule)
    assert await store.rule_named(tx, "Bills") is None


async def test_two_rules_of_one_name_cannot_be(tx: AsyncConnection) -> None:
    await store.write_rule(tx, a_rule("Bills", from_pattern="*"), NOW)
    with pytest.raises(IntegrityError, match="rule_name"):
        await store.write_rule(tx, a_rule("bills", from_pattern="*"), NOW)


def a_sent(mail: Any) -> Received[MailSent]:
    event = MailSent(
        publisher="ticketing",
        idempotency_key="k",
        mail=mail,
        account=uuid4(),
        message_id=f"{mail}@firm.example",
        accepted=(),
        subject="",
        smtp_reply="250 ok",
        raw=ObjectRef(sha256="a" * 64, size=1),
        sent_at=NOW,
    )
    return Received(str(uuid4()), event, "sender", str(uuid4()), NOW)


async def blocked(engine: AsyncEngine) -> bool:
    """Whether a transaction of this database waits for another's row."""
    async with engine.connect() as watcher:
        found = await watcher.exec_driver_sql(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return found.first() is not None
