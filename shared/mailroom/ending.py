"""How the process of services ends: asked by a signal, in order, and within 15 seconds.

Invariant: whatever does not answer meanwhile (a broker, a database, a name server, a disk) does not
hold it up. What is not settled by then is given back when its connections end.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger("mailroom.ending")

SETTLE_WITHIN = 9.0
"""Seconds to settle what is in hand or to give it back, and to leave RabbitMQ."""
LEAVE_WITHIN = 1.0
"""Seconds that all databases have to be left."""
END_WITHIN = 12.0
"""Seconds after which the process ends, whatever of it hangs."""
_REST_WITHIN = 0.5


def asked_to_stop() -> "asyncio.Future[None]":
    """Done when SIGTERM or SIGINT asks this process to stop; asking again changes nothing.

    Not FastStream's: of several `run()` in a process only the last hears SIGTERM, its start goes on
    while it stops, and it waits for one broker after the other as long as each does not answer.
    """
    loop = asyncio.get_running_loop()
    asked = loop.create_future()

    def ask() -> None:
        if not asked.done():
            asked.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    return asked


async def end(living: "asyncio.Task[None]", engines: Sequence[AsyncEngine]) -> NoReturn:
    """Cancel the work and wait for it, leave the databases, and end this process with code 0.

    At once: Python's own farewell to its modules takes as long again as all of this on a busy
    machine, and waits for threads.
    """
    began = time.monotonic()
    log.info("stopping")
    timer = threading.Timer(END_WITHIN, _end_by_force)
    timer.daemon = True
    timer.start()
    await _cancelled({living}, SETTLE_WITHIN)
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_WITHIN):
            leaving = (engine.dispose() for engine in engines)
            await asyncio.gather(*leaving, return_exceptions=True)
    await _cancelled(asyncio.all_tasks() - {asyncio.current_task()}, _REST_WITHIN)
    log.info("stopped", seconds=round(time.monotonic() - began, 2))
    _exit()


async def _cancelled(tasks: "set[asyncio.Task[None]]", seconds: float) -> None:
    for task in tasks:
        task.cancel()
    late = (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else set()
    if late:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        names = {task.get_name() for task in running}
        loops = sorted(name for name in names if not name.startswith("Task-"))
        log.warning("not_ended", seconds=seconds, tasks=len(running), loops=loops)


def _end_by_force() -> None:
    """From a thread, when the event loop itself is stuck."""
    log.warning("ended_by_force", seconds=END_WITHIN)
    _exit()


def _exit() -> NoReturn:
    # A full disk, or a collector that is gone.
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)
