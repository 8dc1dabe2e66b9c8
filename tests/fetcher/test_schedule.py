"""When an account is looked at again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom_fetcher.schedule import SHORTEST, after_failure, backoff, heartbeat, next_look

OFFICE_HOURS = "*/2 7-18 * * 1-5"
"""Monday to Friday, 7 to 19, every two minutes."""


def test_an_interval_counts_from_now() -> None:
    now = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)
    assert next_look(now, 60) == now + timedelta(seconds=60)


def test_no_interval_is_shorter_than_five_seconds() -> None:
    now = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)
    assert next_look(now, 0) == now + SHORTEST == now + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2024-05-06T09:01:30+00:00", "2024-05-06T09:02:00+00:00"),  # a Monday, 11:01 in Berlin
        ("2024-05-06T16:58:00+00:00", "2024-05-07T05:00:00+00:00"),  # 18:58: then tomorrow at 7
        ("2024-05-10T17:00:00+00:00", "2024-05-13T05:00:00+00:00"),  # Friday 19:00: then Monday
        ("2024-03-29T18:00:00+00:00", "2024-04-01T05:00:00+00:00"),  # summer time begins between
        ("2024-10-25T18:00:00+00:00", "2024-10-28T06:00:00+00:00"),  # and ends
    ],
)
def test_a_calendar_is_reckoned_in_its_time_zone(now: str, expected: str) -> None:
    moment = datetime.fromisoformat(now)
    due = next_look(moment, 60, OFFICE_HOURS, "Europe/Berlin")
    assert due == datetime.fromisoformat(expected)
    assert due.tzinfo == UTC


def test_a_calendar_by_the_second_is_held_to_five() -> None:
    now = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)
    assert next_look(now, 60, "* * * * * *") == now + SHORTEST


def test_a_dead_connection_shows_within_the_interval() -> None:
    # It is tried after the heartbeat, and given as long to answer.
    assert 2 * heartbeat(60) <= 60


def test_pauses_double_and_end_at_the_longest() -> None:
    assert [backoff(n, 1.0) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff(100_000, 1.0, longest=300) == 300


@given(st.integers(1, 100), st.floats(0, 1))
def test_a_pause_varies_between_half_and_whole(failures: int, chance: float) -> None:
    whole = backoff(failures, 1.0)
    assert whole / 2 <= backoff(failures, chance) <= whole


def test_a_refused_password_is_tried_seldom() -> None:
    """Many servers lock out who guesses."""
    pauses = [after_failure(failures, 1.0, refused=True) for failures in range(1, 8)]
    assert pauses == [30, 60, 120, 240, 480, 900, 900]
    assert after_failure(1, 1.0, refused=False) == 1
