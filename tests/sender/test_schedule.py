"""When something is tried again, and how fast an account may send."""

from datetime import UTC, datetime, timedelta

from mailroom_sender.schedule import free_at, give_up, next_try

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAUSES = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240)]
FAR = NOON + timedelta(days=30)


def test_it_is_tried_again_after_1_5_15_60_minutes_and_then_every_4_hours() -> None:
    pauses = []
    for tries in range(1, 8):
        due = next_try(tries, NOON, PAUSES, FAR)
        assert due is not None
        pauses.append((due - NOON) / timedelta(minutes=1))
    assert pauses == [1, 5, 15, 60, 240, 240, 240]


def test_it_is_not_tried_again_when_that_would_be_too_late() -> None:
    assert next_try(2, NOON, PAUSES, NOON + timedelta(minutes=5)) is None
    assert next_try(1, NOON, PAUSES, NOON + timedelta(minutes=5)) is not None


def test_patience_counts_from_when_it_could_first_leave_and_ends_at_expires_at() -> None:
    patience = timedelta(days=3)
    assert give_up(NOON, patience, None) == NOON + patience
    assert give_up(NOON, patience, NOON + timedelta(hours=1)) == NOON + timedelta(hours=1)
    assert give_up(NOON, patience, FAR) == NOON + patience


def test_an_account_sends_no_more_than_its_rate_within_any_minute() -> None:
    sent = [NOON + timedelta(seconds=second) for second in (0, 10, 20)]
    now = NOON + timedelta(seconds=30)
    assert free_at(sent, now, per_minute=4) == now
    assert free_at(sent, now, per_minute=3) == NOON + timedelta(seconds=60)
    assert free_at(sent, now, per_minute=2) == NOON + timedelta(seconds=70)
    assert free_at([], now, per_minute=1) == now
    later = NOON + timedelta(minutes=5)
    assert free_at(sent, later, per_minute=3) == later


def test_what_was_sent_before_the_clock_was_put_back_holds_up_nothing() -> None:
    sent = [NOON + timedelta(hours=1, seconds=second) for second in (0, 10, 20)]
    now = NOON + timedelta(seconds=30)
    assert free_at(sent, now, per_minute=2) == now
    since = [*sent, NOON, NOON + timedelta(seconds=10)]
    assert free_at(since, now, per_minute=2) == NOON + timedelta(minutes=1)
