import errno
import os
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from mailroom.messaging.failures import (
    PAUSE_FOR_ROOM,
    DatabaseAway,
    GiveBack,
    Park,
    ParkEvent,
    Retry,
    RetryLater,
    decide,
    describe,
    pause,
)
from mailroom.objects import ObjectMissing


def of_postgresql(error: type[Exception], *, gone: bool = False) -> DBAPIError:
    """As SQLAlchemy hands it on."""
    original: Any = error("what PostgreSQL says")
    return DBAPIError("INSERT …", {"body": "secret"}, original, connection_invalidated=gone)


@pytest.mark.parametrize(
    "error",
    [
        of_postgresql(asyncpg.AdminShutdownError),
        of_postgresql(asyncpg.CrashShutdownError),
        of_postgresql(asyncpg.CannotConnectNowError),
        of_postgresql(asyncpg.ReadOnlySQLTransactionError),
        of_postgresql(asyncpg.ConnectionDoesNotExistError),
        of_postgresql(asyncpg.TooManyConnectionsError),
        of_postgresql(asyncpg.DiskFullError),
        of_postgresql(asyncpg.PostgresIOError),
        of_postgresql(asyncpg.InterfaceError, gone=True),
        DatabaseAway("no connection"),
    ],
    ids=describe,
)
def test_what_says_that_postgresql_is_away_gives_the_batch_back_however_often_it_was_tried(
    error: Exception,
) -> None:
    assert isinstance(decide(error, tries=99, limit=12), GiveBack)


@pytest.mark.parametrize(
    "error",
    [
        of_postgresql(asyncpg.DeadlockDetectedError),
        of_postgresql(asyncpg.SerializationError),
        of_postgresql(asyncpg.LockNotAvailableError),
        of_postgresql(asyncpg.QueryCanceledError),
        OSError(5, "Input/output error"),
        ObjectMissing("ab" * 32),
        RetryLater("not yet"),
        KeyError("a bug that a rollout mends"),
    ],
    ids=describe,
)
def test_what_may_pass_is_tried_again_until_the_last_try_and_then_parked(error: Exception) -> None:
    assert decide(error, tries=11, limit=12) == Retry(describe(error), pause(11))
    assert decide(error, tries=12, limit=12) == Park(f"tried 12 times: {describe(error)}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_parks_no_event_however_long_it_is_full(number: int) -> None:
    full = OSError(number, os.strerror(number))
    assert decide(full, tries=99, limit=12) == Retry(describe(full), PAUSE_FOR_ROOM, counts=False)


@pytest.mark.parametrize(
    "error",
    [
        of_postgresql(asyncpg.CharacterNotInRepertoireError),
        of_postgresql(asyncpg.NumericValueOutOfRangeError),
        of_postgresql(asyncpg.UniqueViolationError),
        of_postgresql(asyncpg.NotNullViolationError),
        ParkEvent("a rule says so"),
    ],
    ids=describe,
)
def test_what_never_fits_is_parked_at_the_first_try(error: Exception) -> None:
    assert decide(error, tries=1, limit=12) == Park(describe(error))


def test_a_rule_may_ask_for_its_own_pause() -> None:
    asked = RetryLater("the other mail is under way", after=timedelta(days=1))
    assert decide(asked, tries=1, limit=12) == Retry(asked.reason, timedelta(days=1))


def test_pauses_double_from_five_seconds_to_an_hour() -> None:
    seconds = [pause(tries).total_seconds() for tries in range(1, 13)]
    assert seconds[:4] == [5, 10, 20, 40]
    assert seconds[-2:] == [3600, 3600]
    assert pause(10_000) == timedelta(hours=1)


def test_a_description_holds_neither_the_statement_nor_its_values() -> None:
    said = describe(of_postgresql(asyncpg.DeadlockDetectedError))
    assert said == "40P01 what PostgreSQL says"
