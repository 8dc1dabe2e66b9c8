"""The reading process, killed and hung for real."""

import asyncio
import os
import signal
import threading
import tracemalloc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailroom import objects
from mailroom.messaging.failures import Retry, decide
from mailroom_router import reading
from mailroom_router.reading import MailUnread
from tests.router.test_service import QUESTION


@pytest.fixture
def store(tmp_path: Path) -> objects.ObjectStore:
    return objects.open_store(str(tmp_path))


async def test_mails_are_read_in_their_order_and_stored_as_json(store: objects.ObjectStore) -> None:
    raws = [QUESTION.replace(b"A question", b"Question %d" % number) for number in range(5)]
    refs = await objects.put_many(store, raws)
    readings = await reading.read(store, refs, seconds=20)
    assert [one.mail.subject for one in readings] == [f"Question {number}" for number in range(5)]
    parsed = [await objects.get(store, one.parsed.sha256) for one in readings]
    assert all(f"Question {number}".encode() in parsed[number] for number in range(5))


async def test_large_mails_are_in_memory_one_after_another(store: objects.ObjectStore) -> None:
    raws = [QUESTION + b"text %d\n" % number * 1_000_000 for number in range(6)]
    refs = await objects.put_many(store, raws)
    del raws
    tracemalloc.start()
    readings = await reading.read(store, refs, seconds=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The bytes and the JSON of one mail, and what comes of decoding it.
    assert peak < 6 * max(ref.size for ref in refs)
    assert len({one.fingerprint for one in readings}) == 6
    assert {one.mail.text for one in readings} == {""}


async def test_a_mail_that_takes_too_long_costs_its_reader_and_is_tried_again(
    store: objects.ObjectStore,
) -> None:
    large = QUESTION + b"text\n" * 12_000_000
    ref = await objects.put(store, large)
    told = f"{ref.sha256} ended its reader, or took more than 0.01 s"
    with pytest.raises(MailUnread, match=told) as unread:
        await reading.read(store, [ref], seconds=0.01)
    assert isinstance(decide(unread.value, tries=1, limit=12), Retry)
    small = await objects.put(store, QUESTION)
    (one,) = await reading.read(store, [small], seconds=20)
    assert one.mail.subject == "A question"


async def test_mails_are_stored_and_read_while_every_look_up_of_a_name_hangs(
    store: objects.ObjectStore,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield QUESTION

    answered, loop = threading.Event(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1, "resolve"))
    hangs = loop.run_in_executor(None, answered.wait)
    try:
        async with asyncio.timeout(20):
            ref = await objects.put_stream(store, pieces())
            (one,) = await reading.read(store, [ref], seconds=20)
    finally:
        answered.set()
        await hangs
    assert one.mail.subject == "A question"


async def test_a_reader_that_died_meanwhile_is_replaced(store: objects.ObjectStore) -> None:
    ref = await objects.put(store, QUESTION)
    await reading.read(store, [ref], seconds=20)
    process = reading._READER.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (one,) = await reading.read(store, [ref], seconds=20)
    assert one.mail.subject == "A question"


async def test_a_reader_that_hangs_is_killed_in_time(store: objects.ObjectStore) -> None:
    ref = await objects.put(store, QUESTION)
    await reading.read(store, [ref], seconds=20)
    process = reading._READER.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(MailUnread):
        await reading.read(store, [ref], seconds=0.2)
    (one,) = await reading.read(store, [ref], seconds=20)
    assert one.mail.subject == "A question"


async def test_the_reader_outlives_the_signals_of_a_stop_and_ends_with_its_asker(
    store: objects.ObjectStore,
) -> None:
    ref = await objects.put(store, QUESTION)
    await reading.read(store, [ref], seconds=20)
    process = reading._READER.process
    assert process is not None
    assert process.stdin is not None
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    await reading.read(store, [ref], seconds=20)
    assert reading._READER.process is process
    process.stdin.close()
    assert process.wait(timeout=10) == 0
