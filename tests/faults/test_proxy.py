"""The proxy does to a connection what it says, and nothing of it is left behind."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy, proxied
from tests.faults.traps import client, server
from tests.waiting import until

HELLO = b"hello\r\n"


@dataclass
class Echo:
    """A server that says what it hears; `heard` by connection."""

    proxy: Proxy = field(init=False)
    heard: list[bytearray] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = bytearray()
        self.heard.append(mine)
        how = "closed"
        try:
            while said := await reader.read(65536):
                mine.extend(said)
                writer.write(said)
                await writer.drain()
        except OSError:
            how = "reset"
        self.ended.append(how)
        writer.close()

    async def connect(self) -> "Line":
        return Line(*await asyncio.open_connection("127.0.0.1", self.proxy.port))


@dataclass
class Line:
    """A client's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hears(self, said: bytes) -> bytes:
        """What comes back of it."""
        self.writer.write(said)
        async with asyncio.timeout(5):
            return await self.reader.readexactly(len(said))

    async def hears_nothing(self) -> bool:
        """Neither a word nor an end."""
        try:
            async with asyncio.timeout(0.1):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def rest(self) -> bytes:
        """What comes until it is reset."""
        got = b""
        try:
            async with asyncio.timeout(5):
                while piece := await self.reader.read(65536):
                    got += piece
        except ConnectionResetError:
            return got
        pytest.fail("it was closed in order")

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    echo = Echo()
    listening = await asyncio.start_server(echo.answer, "127.0.0.1")
    with proxied("127.0.0.1", listening.sockets[0].getsockname()[1]) as (echo.proxy,):
        yield echo
    listening.close()
    await until(lambda: len(echo.ended) == len(echo.heard))


async def test_a_healthy_one_passes_everything_both_ways_in_order() -> None:
    async with echoing() as echo:
        lines = [await echo.connect() for _ in range(20)]
        big = os.urandom(3_000_000)
        answers = await asyncio.gather(*(line.hears(big) for line in lines[:3]))
        assert set(answers) == {big}
        assert [await line.hears(HELLO) for line in lines] == [HELLO] * 20
        lines[0].close()
        await until(lambda: echo.ended == ["closed"])
        for line in lines:
            line.close()


async def test_a_server_that_is_not_there_resets_the_client() -> None:
    async def listen() -> None:
        # The reset may come before asyncio has looked whether it is connected.
        reader, _ = await asyncio.open_connection("127.0.0.1", proxy.port)
        await reader.read(1)

    with proxied("127.0.0.1", 1) as (proxy,), pytest.raises(ConnectionResetError):
        await asyncio.wait_for(listen(), 5)


async def test_reset_ends_what_is_open_once_and_lets_new_ones_through() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        await line.hears(HELLO)
        echo.proxy.reset()
        assert await line.rest() == b""
        await until(lambda: echo.ended == ["reset"])
        again = await echo.connect()
        assert await again.hears(HELLO) == HELLO
        line.close()
        again.close()


async def test_refuse_lets_nobody_in_until_healed_on_the_same_port() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        await line.hears(HELLO)
        echo.proxy.refuse()
        assert await line.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await echo.connect()
        echo.proxy.heal()
        again = await echo.connect()
        assert await again.hears(HELLO) == HELLO
        line.close()
        again.close()


async def test_a_black_hole_says_nothing_and_what_it_held_back_goes_on_afterwards() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        await line.hears(HELLO)
        echo.proxy.blackhole()
        new = await echo.connect()
        line.writer.write(b"later")
        assert await line.hears_nothing()
        assert await new.hears_nothing()
        assert bytes(echo.heard[0]) == HELLO
        echo.proxy.heal()
        assert await line.reader.readexactly(5) == b"later"
        assert await new.hears(HELLO) == HELLO
        line.close()
        new.close()


async def test_a_forgotten_connection_stays_silent_while_new_ones_come_through() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        await line.hears(HELLO)
        echo.proxy.forget()
        line.writer.write(b"lost")
        new = await echo.connect()
        assert await new.hears(HELLO) == HELLO
        assert await line.hears_nothing()
        echo.proxy.heal()
        assert await line.rest() == b""
        assert bytes(echo.heard[0]) == HELLO
        line.close()
        new.close()


async def test_a_delay_and_a_rate_slow_down_and_lose_nothing() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        echo.proxy.delay(0.1)
        began = time.monotonic()
        assert await line.hears(HELLO) == HELLO
        assert time.monotonic() - began >= 0.2
        echo.proxy.heal()
        echo.proxy.rate(100_000)
        began = time.monotonic()
        much = os.urandom(20_000)
        assert await line.hears(much) == much
        assert time.monotonic() - began >= 0.3
        line.close()


async def test_a_cut_passes_on_what_came_before_it_and_nothing_after() -> None:
    async with echoing() as echo:
        sprung = echo.proxy.cut_after(client(b"DATA"), then=3)
        other, line = await echo.connect(), await echo.connect()
        assert await other.hears(HELLO) == HELLO
        line.writer.write(b"some DATA 123456")
        await line.rest()
        assert sprung.is_set()
        await until(lambda: bytes(echo.heard[1]) == b"some DATA 12")
        assert await other.hears(b"DATA again") == b"DATA again", "it strikes once"
        line.close()
        other.close()


async def test_a_cut_in_an_answer_gives_the_client_its_beginning() -> None:
    async with echoing() as echo:
        echo.proxy.cut_after(server(), then=100_000)
        line = await echo.connect()
        line.writer.write(os.urandom(1_000_000))
        assert len(await line.rest()) == 100_000
        line.close()


async def test_a_cut_may_be_meant_for_one_client_by_its_first_words() -> None:
    async with echoing() as echo:
        anna, bert = await echo.connect(), await echo.connect()
        await anna.hears(b"I am anna.")
        await bert.hears(b"I am bert.")
        sprung = echo.proxy.cut_after(client(b"COMMIT"), whose=b"bert")
        assert await anna.hears(b"COMMIT") == b"COMMIT"
        assert not sprung.is_set()
        bert.writer.write(b"COMMIT")
        await bert.rest()
        await until(lambda: bytes(echo.heard[1]) == b"I am bert.COMMIT")
        anna.close()
        bert.close()


async def test_a_swallowed_answer_is_that_of_a_server_that_has_heard_all() -> None:
    async with echoing() as echo:
        line = await echo.connect()
        sprung = echo.proxy.swallow_answer(client(b"COMMIT"))
        assert await line.hears(b"BEGIN") == b"BEGIN"
        line.writer.write(b"COMMIT and more")
        assert await line.hears_nothing()
        assert sprung.is_set()
        assert bytes(echo.heard[0]) == b"BEGINCOMMIT and more"
        echo.proxy.reset()
        assert await line.rest() == b""
        line.close()


async def test_nothing_is_left_of_it() -> None:
    async def everything() -> None:
        async with echoing() as echo:
            lines = [await echo.connect() for _ in range(5)]
            for line in lines:
                await line.hears(HELLO)
            echo.proxy.blackhole()
            lines += [await echo.connect() for _ in range(5)]
            echo.proxy.forget()
            lines += [await echo.connect() for _ in range(5)]
            await lines[-1].hears(HELLO)
            assert echo.proxy.open_connections == 15
            for line in lines:
                line.close()

    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    await everything()
    before = open_files(), threading.active_count()
    for _ in range(5):
        await everything()
    await until(lambda: (open_files(), threading.active_count()) == before)
