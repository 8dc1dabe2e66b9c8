"""What the process of a service is and holds, as /proc shows it, and how it ends.

Invariant: it is looked at from outside, where an operator looks.
"""

import os
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from deploy.local import guarded
from tests.faults.firm import Firm
from tests.faults.probing import said
from tests.waiting import until

LONGEST = 15.0
"""Seconds that a service may take to end in order."""


@dataclass(frozen=True)
class Stop:
    """How a service ended that was asked to."""

    name: str
    seconds: float
    exit_code: int | None
    words: str
    """What it logged meanwhile."""

    @property
    def is_in_order(self) -> bool:
        """Whether it took no longer than it may, and calls it a success."""
        return self.seconds < LONGEST and self.exit_code == 0

    def __str__(self) -> str:
        return f"{self.name}: {self.seconds:.2f} s, exit code {self.exit_code}"


def pid_of(firm: Firm, name: str) -> int:
    """The service's own process, its children left out."""
    (pid,) = _children(firm.processes[name].guard.process.pid)
    return pid


def _children(pid: int) -> list[int]:
    """Of whichever thread."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def stop(firm: Firm, name: str, *numbers: int) -> Stop:
    """Send a service these signals, SIGTERM if none is given, and wait until it has ended."""
    process, pid = firm.processes[name], pid_of(firm, name)
    log = process.guard.folder / guarded.LOG
    before, began = log.stat().st_size, time.monotonic()
    for number in numbers or (SIGTERM,):
        os.kill(pid, number)
    await until(lambda: not Path(f"/proc/{pid}").exists(), within=2 * LONGEST)
    seconds = time.monotonic() - began
    await until(lambda: process.guard.ended)
    firm.end(name)
    words = log.read_bytes()[before:].decode(errors="replace")
    return Stop(name, seconds, process.guard.exit_code, words)


def assert_in_order(stops: Sequence[Stop]) -> None:
    """Print how long they took, and see that none took too long."""
    seconds = sorted(one.seconds for one in stops)
    p50, longest = seconds[len(seconds) // 2], seconds[-1]
    print(f"{len(stops)} stops: p50 {p50:.2f} s, max {longest:.2f} s")
    late = [f"{one}\n{one.words}" for one in stops if not one.is_in_order]
    assert not late, "\n".join(late)


@dataclass(frozen=True)
class Held:
    """What a process holds at a moment."""

    memory: int
    """Bytes that lie in memory (RSS), its children's too."""
    handles: int
    threads: int
    children: int
    tasks: int


def held(firm: Firm, name: str) -> Held:
    """What the process of a service holds now, its tasks as it told them a second ago."""
    pid = pid_of(firm, name)
    process = Path(f"/proc/{pid}")
    return Held(
        memory=sum(map(_memory, [pid, *_children(pid)])),
        handles=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        children=len(_children(pid)),
        tasks=round(metrics(firm, name)["mailroom_tasks"]),
    )


def metrics(firm: Firm, name: str) -> dict[str, float]:
    """All series of a service with their values, by name and labels as they are told."""
    listening = [line["http"] for line in said(firm, name) if line.get("event") == "listening"]
    with urllib.request.urlopen(f"http://{listening[-1]}/metrics", timeout=30) as told:
        lines = told.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}
