"""When a process that shows signs of life is taken for dead: after it was watched standing still.

Invariant: no two clocks are compared, and none that anybody can move is asked. Whoever watches
reckons by a monotonic clock of its own, so that neither a machine whose time is wrong nor one whose
time jumps loses what it holds, or keeps what it held when it died.
"""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """A sign of life as it was when it was last seen to change. Times are monotonic, in seconds."""

    sign: Hashable
    since: float
    looked: float

    def stands_still(self, length: float) -> bool:
        """Whether it was watched for longer than `length` without a change."""
        return self.looked - self.since > length


def watched(seen: Seen | None, sign: Hashable, now: float, length: float) -> Seen:
    """What is known after looking again; `length` is how long the living may pause at most.

    Whoever could not look for that long (the database was away) could not see it change either, and
    watches anew.
    """
    if seen is None or seen.sign != sign or now - seen.looked > length:
        return Seen(sign, since=now, looked=now)
    return Seen(sign, seen.since, looked=now)
