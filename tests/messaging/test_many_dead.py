"""A dead-letter queue that is full: drained in bounded memory, while living events pass, and its
parked events can be looked through and replayed."""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aio_pika
import pytest
from sqlalchemy import func, select

from tests.messaging.clock import Clock
from tests.messaging.test_commands import mailroom
from tests.messaging.test_consume import deliver, order
from tests.messaging.world import ORDERS, World, desk_messaging, orders
from tests.waiting import until

PARKED = desk_messaging.parked
LIVING = 1_000_000
"""Numbers of living orders begin here."""
AT_ONCE = 500
SMALL, LARGE = 1_000, 100_000
PATIENCE = 60.0
"""Seconds that a living order may take on a busy machine."""


@pytest.mark.parametrize("count", [SMALL, pytest.param(LARGE, marks=pytest.mark.matrix)])
async def test_a_full_dead_letter_queue_is_drained_beside_living_traffic_and_replayed(
    world: World, installation: dict[str, str], tmp_path: Path, clock: Clock, count: int
) -> None:
    clock.forward(timedelta())
    environment = installation | {"MAILROOM_CLOCK_OFFSET_FILE": str(tmp_path / "offset")}
    await expire(world, count)
    async with serving(environment, "desk") as desk:
        at_rest = await until(lambda: _memory_when_ready(world, desk), within=60)
        began, slowest, living = time.monotonic(), 0.0, 0
        while await world.count(PARKED) < count:
            sent = time.monotonic()
            await deliver(world, LIVING + living)
            living += 1
            await until(lambda: _taken(world, LIVING, living), within=PATIENCE)  # noqa: B023
            slowest = max(slowest, time.monotonic() - sent)
        seconds = time.monotonic() - began
        grown = memory(desk) - at_rest
        print(
            f"{count} dead letters in {seconds:.1f} s, {count / seconds:.0f}/s; +{grown:.1f} MB"
            f" on {at_rest:.1f}; {living} living orders, the slowest {slowest:.2f} s"
        )
        assert (await world.ready("dead.desk"))[0] == 0
        assert grown < 40, f"{grown:.1f} MB for {count} dead letters"

        code, said, _ = await mailroom(
            environment, "parked", "count", "--service", "desk", "--json"
        )
        assert code == 0
        (told,) = [json.loads(line) for line in said.splitlines()]
        assert (told["queue"], told["events"]) == (ORDERS, count)
        command = ("parked", "list", "--service", "desk", "--skip", str(count - 10))
        code, said, err = await mailroom(environment, *command)
        assert (code, len(said.splitlines()), err) == (0, 10, "")
        _, said, err = await mailroom(environment, "parked", "list", "--service", "desk")
        assert len(said.splitlines()) == 100
        assert f"{count - 100} older ones are not listed" in err

        words = told["reason"].partition(":")[0]
        replay = ("parked", "replay", "--service", "desk", "--reason", words)
        code, said, err = await mailroom(environment, *replay)
        assert (code, said.startswith(f"replayed {count} of desk; the last is published")) == (
            0,
            True,
        )
        code, said, _ = await mailroom(environment, *replay)
        left = re.fullmatch(r"replayed 0 of desk; (\d+) are on their way already\n", said)
        assert left or said == ""
        clock.forward(timedelta(seconds=count / 200 + 1))

        async def all_handled() -> bool:
            return await world.count(PARKED) == 0

        await until(all_handled, within=60 + count / 100)
        assert await _taken(world, 0, count)


async def expire(world: World, count: int) -> None:
    """Let so many orders die in desk's queue: their time to live is none."""
    async with await aio_pika.connect(world.broker.url("shop")) as connection:
        exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(
                *(
                    exchange.publish(
                        aio_pika.Message(
                            order(number, note="".ljust(2000)),
                            message_id=f"dead-{number}",
                            type="order.placed",
                            user_id="shop",
                            expiration=0,
                            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        ),
                        "order.placed.small",
                    )
                    for number in range(start, min(start + AT_ONCE, count))
                )
            )

    async def dead() -> bool:
        return (await world.ready("dead.desk"))[0] == count

    await until(dead, within=60 + count / 200)


@asynccontextmanager
async def serving(environment: dict[str, str], name: str) -> AsyncIterator[int]:
    """A service in a process of its own; its id."""
    program = "from mailroom.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "serve", name),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _memory_when_ready(world: World, process: int) -> float:
    """In MB, as soon as it has parked something."""
    assert await world.count(PARKED)
    return memory(process)


def memory(process: int) -> float:
    """The most that the process has had in memory until now, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) / 1024


async def _taken(world: World, first: int, count: int) -> bool:
    last = LIVING if first < LIVING else 2 * LIVING
    taken = select(func.count()).where(orders.c.number >= first, orders.c.number < last)
    async with world.look(orders).connect() as tx:
        return (await tx.execute(taken)).scalar_one() == count
