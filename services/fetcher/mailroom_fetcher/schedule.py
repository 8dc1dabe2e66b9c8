"""When to look at an account again. Pure rules over given times."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

SHORTEST = timedelta(seconds=5)
"""No account is looked at more often, whatever its calendar says."""


def next_look(
    now: datetime, interval: int, calendar: str | None = None, timezone: str = "UTC"
) -> datetime:
    """The next time to look: after `interval` seconds, or when the calendar says so.

    `calendar` is a cron expression that the directory has checked, reckoned in the IANA zone
    `timezone`.
    """
    if calendar is None:
        return now + max(timedelta(seconds=interval), SHORTEST)
    following = next(CronSim(calendar, now.astimezone(ZoneInfo(timezone))))
    return max(following.astimezone(now.tzinfo), now + SHORTEST)


def heartbeat(interval: int) -> float:
    """Seconds after which an idle connection is tried, so that its death shows in an interval."""
    return interval / 2


def backoff(failures: int, chance: float, first: float = 1.0, longest: float = 300.0) -> float:
    """Seconds to wait after the n-th failure in a row (1, 2, …): doubled each time, with jitter.

    `chance` is from 0 to 1: thousands of accounts of one server shall not come back at once.
    """
    whole = min(first * 2.0 ** min(failures - 1, 30), longest)
    return whole * (0.5 + chance / 2)


def after_failure(failures: int, chance: float, *, refused: bool) -> float:
    """Seconds to wait after the n-th failure in a row; long ones after a `refused` password.

    Many servers lock out who guesses.
    """
    return backoff(failures, chance, 30.0, 900.0) if refused else backoff(failures, chance)
