"""What becomes of an event whose handling failed: the one place that sorts failures.

Invariant: each failure ends as exactly one of three. *Give back*: PostgreSQL is away, nothing can
be written down, the batch returns to its queue. *Retry*: this event for now, again later through
the own outbox while others pass. *Park*: this event for good, or after its last try.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from mailroom import database
from mailroom.messaging.envelope import Outgoing

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
PAUSE_FOR_ROOM = timedelta(seconds=30)
"""While the object store's disk is full; whatever then comes meets the same."""

_AWAY_CLASSES = frozenset(
    {
        "08",  # connection exception
        "53",  # insufficient resources: disk full, too many connections
        "58",  # system error: the server's own input and output
    }
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NEVER_FITS_CLASSES = frozenset(
    {
        "22",  # data exception: a value that no column takes
        "23",  # integrity constraint violation
    }
)


class ParkEvent(Exception):
    """A rule's verdict: this event can never be handled as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(Exception):
    """A rule's verdict: this event cannot be handled yet. `after` null is the usual pause.

    `asks` is published meanwhile, each time: what would mend it.
    """

    def __init__(
        self, reason: str, after: timedelta | None = None, asks: Sequence[Outgoing] = ()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.asks = asks


class DatabaseAway(Exception):
    """PostgreSQL gave no connection, or what failed could not be written down."""


@dataclass(frozen=True)
class GiveBack:
    """The batch returns to its queue, and is consumed again when PostgreSQL answers."""

    reason: str


@dataclass(frozen=True)
class Retry:
    """The event is published to its own queue alone, `after` from now; and `asks` at once."""

    reason: str
    after: timedelta
    asks: Sequence[Outgoing] = ()
    counts: bool = True
    """Whether it was one of the event's tries, after the last of which it is parked."""


@dataclass(frozen=True)
class Park:
    """The event is kept where a person finds it."""

    reason: str


Decision = GiveBack | Retry | Park


def decide(error: BaseException, tries: int, limit: int) -> Decision:
    """What to do after `tries` failed tries (this one counts), of `limit` at most."""
    reason = describe(error)
    if database_is_away(error):
        return GiveBack(reason)
    if never_fits(error):
        return Park(reason)
    if disk_is_full(error):
        return Retry(reason, PAUSE_FOR_ROOM, counts=False)
    if tries >= limit:
        return Park(f"tried {tries} times: {reason}")
    if not isinstance(error, RetryLater):
        return Retry(reason, pause(tries))
    return Retry(reason, pause(tries) if error.after is None else error.after, error.asks)


def database_is_away(error: BaseException) -> bool:
    """Whether PostgreSQL is gone, read-only, or out of room: no event's own fault."""
    if isinstance(error, DatabaseAway):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = sqlstate(error)
    return state in database.GONE or state[:2] in _AWAY_CLASSES


def disk_is_full(error: BaseException) -> bool:
    """Whether the object store takes nothing: no event's own fault either."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def never_fits(error: BaseException) -> bool:
    """Whether trying again would fail alike: a rule said so, or PostgreSQL refused the data."""
    return isinstance(error, ParkEvent) or sqlstate(error)[:2] in _NEVER_FITS_CLASSES


def pause(tries: int) -> timedelta:
    """Before the next try: 5 s after the first, doubled each time, an hour at most."""
    # Deadlock, serialization failure, lock time-out, a full disk, a bug that a rollout mends.
    return min(FIRST_PAUSE * float(2 ** min(tries - 1, 16)), LONGEST_PAUSE)


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code (its manual, appendix A) of an error of SQLAlchemy or asyncpg, or ''."""
    raised: object = error.orig if isinstance(error, DBAPIError) else error
    return getattr(raised, "sqlstate", None) or ""


def describe(error: BaseException) -> str:
    """An error in one line, without the statement and its values: they may hold a mail."""
    if isinstance(error, ParkEvent | RetryLater):
        return error.reason
    if isinstance(error, DBAPIError):
        text = str(error.orig).splitlines()[0] if str(error.orig) else ""
        return f"{sqlstate(error)} {text}".strip()
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
