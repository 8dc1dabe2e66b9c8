"""How a process ends: in order, and in time though something of it hangs."""

import asyncio
import json
import os
import sys
import time
from signal import SIGTERM
from typing import Any

import pytest

START = """
import asyncio, threading
from mailroom import ending, observability

async def live():
    while True:
        {work}

async def main():
    observability.configure_logs("INFO", "json")
    asked = ending.asked_to_stop()
    living = asyncio.create_task(live(), name="living")
    print("started", flush=True)
    await asked
    await ending.end(living, [])

ending.END_WITHIN = 3.0
{before}
asyncio.run(main())
"""
SLEEPS = """
        await asyncio.sleep(3600)"""

SWALLOWS = """
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass"""

STUCK = """
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            threading.Event().wait()"""


async def started(before: str, work: str) -> asyncio.subprocess.Process:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START.format(before=before, work=work)),
        stdout=asyncio.subprocess.PIPE,
        # Otherwise nothing ever waits to be flushed.
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert running.stdout
    assert await running.stdout.readline() == b"started\n"
    return running


async def ended(before: str = "", work: str = "await asyncio.sleep(3600)") -> tuple[float, str]:
    """Ask a process with this work to stop: after how many seconds it ended, its last words."""
    running = await started(before, work)
    assert running.stdout
    running.send_signal(SIGTERM)
    began = time.monotonic()
    words = (await running.stdout.read()).decode()
    assert await running.wait() == 0
    return time.monotonic() - began, words


async def test_what_is_cancelled_in_order_ends_at_once() -> None:
    _, words = await ended()
    assert events(words) == ["stopping", "stopped"]


async def test_a_thread_that_hangs_is_waited_for_by_nobody() -> None:
    hangs = "threading.Thread(target=threading.Event().wait).start()"
    _, words = await ended(before=hangs)
    assert events(words) == ["stopping", "stopped"]


async def test_a_task_that_swallows_its_cancellation_is_cut_off_and_named() -> None:
    before = "ending.SETTLE_WITHIN = 0.5"
    seconds, words = await ended(before, SWALLOWS)
    assert seconds < 10
    assert events(words) == ["stopping", "not_ended", "not_ended", "stopped"]
    assert json.loads(words.splitlines()[1])["loops"] == ["living"]


async def test_an_event_loop_that_is_stuck_is_cut_off() -> None:
    seconds, words = await ended(work=STUCK)
    assert 3 < seconds < 10
    assert events(words) == ["stopping", "ended_by_force"]


@pytest.mark.parametrize("work", [SLEEPS, STUCK], ids=["in order", "by force"])
async def test_an_output_that_nobody_takes_keeps_no_process_from_ending(work: str) -> None:
    """Nor does a thread then that hangs."""
    hangs = "threading.Thread(target=threading.Event().wait).start()"
    running = await started(hangs, f"print('pending'){work}")
    pipe: Any = running._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    pipe.close()
    try:
        async with asyncio.timeout(20):
            running.send_signal(SIGTERM)
            assert await running.wait() == 0
    finally:
        if running.returncode is None:
            running.kill()


def events(words: str) -> list[str]:
    return [json.loads(line)["event"] for line in words.splitlines()]
