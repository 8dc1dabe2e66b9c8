"""Listening: a word is heard at once, and a line that is dead is noticed and left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from pydantic_core import Url
from sqlalchemy import func, make_url, select, text

from mailroom import notifications
from mailroom.messaging.relay import relay
from tests.messaging.cable import Cable, cable
from tests.messaging.world import SHOP, World, shop_messaging
from tests.waiting import until

CHANNEL = "tried"


class Ear:
    """What was heard, and how often listening began."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[tuple[Ear, Cable]]:
    url, ear = make_url(world.database.url("shop")), Ear()
    async with cable(url.host or "", url.port or 5432) as line:
        behind = url.set(host="127.0.0.1", port=line.port).render_as_string(hide_password=False)
        listener = asyncio.create_task(
            notifications.listen(Url(behind), "test ear", CHANNEL, ear.words.append, ear.begin)
        )
        try:
            yield ear, line
        finally:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener


async def say(world: World, word: str) -> None:
    async with world.look(shop_messaging.outbox).begin() as tx:
        await tx.execute(select(func.pg_notify(CHANNEL, word)))


async def test_a_word_is_heard_and_after_a_cut_line_again(world: World) -> None:
    async with listening(world) as (ear, line):
        await until(lambda: ear.begun == 1)
        await say(world, "one")
        await until(lambda: ear.words == ["one"])
        line.cut()
        await line.mend()
        await until(lambda: ear.begun == 2)
        await say(world, "two")
        await until(lambda: ear.words == ["one", "two"])


async def test_a_line_that_is_silently_dead_is_left_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "CHECK_EVERY", 0.3)
    async with listening(world) as (ear, line):
        await until(lambda: ear.begun == 1)
        line.freeze()
        await until(lambda: ear.begun == 2)
        await say(world, "one")
        await until(lambda: ear.words == ["one"])


async def test_a_server_that_ends_before_its_line_does_is_left_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg takes its last word for a statement under way, and refuses the next one."""
    monkeypatch.setattr(notifications, "CHECK_EVERY", 0.3)
    async with listening(world) as (ear, line):
        await until(lambda: ear.begun == 1)
        line.holds_ends = True
        superuser = await asyncpg.connect(world.database.superuser_url)
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test ear' AND datname = current_database()"
        )
        await superuser.close()
        await until(lambda: ear.begun == 2)
        await say(world, "one")
        await until(lambda: ear.words == ["one"])


async def test_the_relay_listens_with_a_sign_of_life(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "CHECK_EVERY", 0.1)
    last = text("SELECT query FROM pg_stat_activity WHERE application_name = 'shop listen'")

    async def shown() -> bool:
        async with world.look(shop_messaging.outbox).connect() as tx:
            return (await tx.scalars(last)).all() == ["SELECT 1"]

    relaying = asyncio.create_task(relay(SHOP, world.resources(SHOP)))
    await until(shown)
    relaying.cancel()
    with suppress(asyncio.CancelledError):
        await relaying
