"""When something is tried again, and how fast an account may send.

Invariant: plain reckoning with the times it is given; it never asks a clock.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)


def next_try(
    tries: int, now: datetime, pauses: Sequence[timedelta], give_up: datetime
) -> datetime | None:
    """When to try again after the `tries`-th try has failed; None when `give_up` would be over.

    The last of `pauses` is repeated.
    """
    due = now + pauses[min(tries, len(pauses)) - 1]
    return due if due < give_up else None


def give_up(first_due: datetime, patience: timedelta, expires_at: datetime | None) -> datetime:
    """When to stop trying: `patience` after it could first leave, or when its request says."""
    end = first_due + patience
    return end if expires_at is None else min(end, expires_at)


def free_at(sent: Sequence[datetime], now: datetime, per_minute: int) -> datetime:
    """When an account may send again, if at most `per_minute` mails leave within any minute.

    `sent` are the times of its latest mails; `per_minute` of them suffice. Those that are still to
    come do not count: the clock was put back, and nobody knows when they left.
    """
    past = sorted(each for each in sent if each <= now)
    if len(past) < per_minute:
        return now
    return max(now, past[-per_minute] + MINUTE)
