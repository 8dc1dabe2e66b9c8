"""Processor time by process, as proc(5) tells it."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Pids = Callable[[], Iterable[int]]
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Used:
    """Seconds of processor time by name, once the block has ended."""

    seconds: dict[str, float] = field(default_factory=dict)

    def each(self, mails: int) -> dict[str, float]:
        """Milliseconds a mail."""
        return {name: seconds * 1000 / mails for name, seconds in self.seconds.items()}


@contextmanager
def measured(groups: Mapping[str, Pids]) -> Iterator[Used]:
    """What each group of processes uses inside of the block, their ended children's too."""
    used = Used()
    before = {name: _seconds(pids()) for name, pids in groups.items()}
    yield used
    used.seconds |= {name: _seconds(pids()) - before[name] for name, pids in groups.items()}


def resident(pids: Iterable[int]) -> float:
    """MB of memory that processes hold (RSS)."""
    page = os.sysconf("SC_PAGE_SIZE")
    held = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(held) * page / 1e6


def _seconds(pids: Iterable[int]) -> float:
    return sum(map(_ticks, pids)) / _TICK


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended: its parent has its time
    # utime, stime and those of children that were waited for; a name may hold blanks.
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))
