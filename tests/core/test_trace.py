"""What `mailroom trace` prints."""

from datetime import UTC, datetime, timedelta, timezone

from mailroom.service import TraceStep
from mailroom.trace import as_text

LATE = datetime(2024, 5, 6, 23, 59, 59, 999_000, tzinfo=UTC)


def test_a_day_has_a_line_and_each_step_one_in_utc() -> None:
    tomorrow = (LATE + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=2)))
    steps = [
        TraceStep(LATE, "sender", "unreachable", "421 busy", {"try": "1"}),
        TraceStep(tomorrow, "sender", "sent", "250 taken"),
    ]
    assert as_text(steps).splitlines() == [
        "2024-05-06, UTC",
        "23:59:59.999  sender     unreachable    421 busy  try=1",
        "2024-05-07, UTC",
        "00:00:00.999  sender     sent           250 taken",
    ]


def test_what_others_wrote_does_not_drive_the_terminal() -> None:
    step = TraceStep(LATE, "sender", "refused", "550 \x1b[2Jgone", {"folder": "a\nb"})
    (_, line) = as_text([step]).splitlines()
    assert line.isprintable()
