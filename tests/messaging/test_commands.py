"""`mailroom parked` and `mailroom replay`, as an operator runs them.

Desk and shop are third parties' services here: a package with an entry point, found when installed.
"""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import update

from mailroom import clock as mailroom_clock
from mailroom.messaging import outbox
from tests.messaging.test_consume import deliver, only_consumers, order, parked
from tests.messaging.world import (
    DESK,
    OrderPlaced,
    World,
    desk_messaging,
    shop_messaging,
)


async def mailroom(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *("mailroom", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_parked_events_are_listed_shown_replayed_and_dropped(
    world: World, installation: dict[str, str]
) -> None:
    async with world.running(DESK, only=only_consumers):
        await deliver(world, 7, event_id="e7", note="park")
        await deliver(world, 8, event_id="e8", note="park")
        first, second = await parked(world, 2)
    code, listed, _ = await mailroom(installation, "parked", "list", "--service", "desk", "--json")
    assert code == 0
    told = [json.loads(line) for line in listed.splitlines()]
    assert [each["id"] for each in told] == [f"desk:{first.id}", f"desk:{second.id}"]
    assert told[0]["reason"] == "the order says so"
    _, shown, _ = await mailroom(installation, "parked", "show", told[0]["id"], "--json")
    assert json.loads(shown)["body"] == order(7, note="park").decode()
    code, said, _ = await mailroom(installation, "parked", "replay", told[0]["id"])
    assert (code, said) == (0, f"replayed {told[0]['id']}\n")
    assert [row.event_id for row in await world.rows(desk_messaging.outbox)] == ["e7"]
    code, said, err = await mailroom(installation, "parked", "replay", told[0]["id"])
    assert (code, said) == (2, "")
    assert err.startswith(f"mailroom: id '{told[0]['id']}': was replayed at 20")
    assert err.endswith("--again publishes it once more\n")
    code, said, _ = await mailroom(installation, "parked", "drop", "--yes", told[1]["id"])
    assert (code, said) == (0, f"dropped {told[1]['id']}\n")
    _, text, _ = await mailroom(installation, "parked", "list", "--service", "desk")
    assert text.splitlines()[0].startswith(told[0]["id"])
    assert "(replayed)" in text
    assert len(text.splitlines()) == 1


async def test_what_strangers_wrote_of_a_parked_event_cannot_drive_the_terminal(
    world: World, installation: dict[str, str]
) -> None:
    """Nor forge a line of its own."""
    wild = "\x1b[2J\u202e\x9b\nbody: forged"
    properties: dict[str, Any] = {
        "message_id": f"e{wild}",
        "type": f"t{wild}",
        "user_id": "shop",
        "correlation_id": f"c{wild}",
        "headers": {f"h{wild}": f"v{wild}"},
    }
    async with world.running(DESK, only=only_consumers):
        body = "no JSON\x1b[2J\u202e\nbody".encode()
        await world.publish("shop", "order.placed.small", body, **properties)
        (row,) = await parked(world)
    for command in (["list"], ["count"], ["show", f"desk:{row.id}"]):
        code, out, _ = await mailroom(installation, "parked", *command)
        assert code == 0
        assert out
        assert not {"\x1b", "\u202e", "\x9b"} & {*out}
        assert [line for line in out.splitlines() if line.startswith("body: forged")] == []
    assert "body: no JSON·[2J·\nbody\n" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["parked", "show", "7"], "mailroom: id '7': give <service>:<number>"),
        (["parked", "show", "desk:x"], "mailroom: id 'desk:x': give <service>:<number>"),
        (["parked", "show", "desk:" + "9" * 30], "mailroom: id 'desk:999"),
        (["parked", "show", "desk:424242"], "mailroom: id 'desk:424242': no such parked event"),
        (["parked", "replay", "desk:424242"], "mailroom: id 'desk:424242': no such parked event"),
        (["parked", "drop", "--yes", "desk:4"], "mailroom: id 'desk:4': no such parked event"),
        (["parked", "replay"], "mailroom: ids 'none': give ids, or one of --service, --queue"),
        (["parked", "drop", "desk:1", "--queue", "desk.x"], "mailroom: ids 'desk:1': give ids, or"),
        (["parked", "replay", "nobody:1"], "mailroom: service 'nobody' is not installed"),
        (["replay", "--service", "shop", "--since", "yesterday"], "mailroom: since 'yesterday'"),
        (
            ["replay", "--service", "shop", "--since", "2025-01-01", "--name", "mail.lost"],
            "mailroom: name 'mail.lost': give one of ",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:40],
)
async def test_a_mistake_is_answered_with_one_line_and_code_2(
    installation: dict[str, str], arguments: list[str], said: str
) -> None:
    code, out, err = await mailroom(installation, *arguments)
    assert code == 2
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert out == ""


async def test_of_many_those_whose_queue_is_no_more_are_left_and_told(
    world: World, installation: dict[str, str]
) -> None:
    """They would come back as unroutable for ever."""
    async with world.running(DESK, only=only_consumers):
        for number in range(3):
            await deliver(world, number, event_id=f"e{number}", note="park")
        await parked(world, 3)
    lost = desk_messaging.parked
    async with world.look(lost).begin() as tx:
        for event_id, queue in (("e1", "unknown"), ("e2", "desk.order.removed")):
            await tx.execute(update(lost).where(lost.c.event_id == event_id).values(queue=queue))
    code, said, _ = await mailroom(installation, "parked", "replay", "--service", "desk")
    assert code == 0
    assert said.splitlines() == [
        "replayed 1 of desk",
        "left 2 of desk, of queues that it does not have: publish their bytes anew, or drop them",
    ]
    assert [row.event_id for row in await world.rows(desk_messaging.outbox)] == ["e0"]
    on_its_way = {row.event_id: row.replayed_at is not None for row in await world.rows(lost)}
    assert on_its_way == {"e0": True, "e1": False, "e2": False}


async def test_a_service_whose_settings_are_missing_is_named_with_what_is_missing(
    installation: dict[str, str],
) -> None:
    del installation["MAILROOM_DESK_DATABASE_URL"]
    code, _, err = await mailroom(installation, "parked", "list", "--service", "desk")
    assert code == 2
    assert "MAILROOM_DESK_DATABASE_URL is not set" in err
    assert err.count("\n") == 1


async def test_what_was_published_is_published_again_since_a_time(
    world: World, installation: dict[str, str]
) -> None:
    (id_,) = await world.place(OrderPlaced(number=1))
    moment = mailroom_clock.now()
    async with world.look(shop_messaging.outbox).begin() as tx:
        rows = await outbox.claim(tx, shop_messaging, moment, 10)
        await outbox.make_day(tx, shop_messaging, moment)
        await outbox.move_to_sent(tx, shop_messaging, [row.id for row in rows], moment)
    command = ("replay", "--service", "shop", "--since", moment.isoformat())
    code, out, _ = await mailroom(installation, *command)
    assert code == 0
    assert out.startswith("1 events of shop since ")
    assert [row.event_id for row in await world.rows(shop_messaging.outbox)] == [id_]
