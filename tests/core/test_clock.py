"""The clock is the system's, unless a test moves it for all processes by a file."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailroom.clock import now


def test_without_an_offset_it_is_the_system_clock() -> None:
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_an_offset_file_moves_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offset = tmp_path / "offset"
    monkeypatch.setenv("MAILROOM_CLOCK_OFFSET_FILE", str(offset))
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=5)
    offset.write_text("86400")
    assert now() - datetime.now(UTC) > timedelta(hours=23)
    offset.write_text("-3600")
    assert now() - datetime.now(UTC) < timedelta(minutes=-59)


def test_nobody_else_asks_the_system_for_the_time() -> None:
    """Else a test could not pass a day for all processes at once; durations are monotonic.

    But the age of a file is reckoned by the clock that stamped it.
    """
    root = Path(__file__).parents[2]
    asks = re.compile(
        r"datetime\.(?:now|today|utcnow)\(|date\.today\(|\btime\.(?:time|time_ns|gmtime|localtime)\("
        r"|(?<!clock\.)\bnow\(\)|\bfunc\.(?:now|clock_timestamp)|current_timestamp",
        re.IGNORECASE,
    )
    found = [
        f"{file.relative_to(root)}: {line.strip()}"
        for folder in ("shared", "services")
        for file in (root / folder).rglob("*.py")
        if file.name != "clock.py"
        for line in file.read_text().splitlines()
        if asks.search(line) and "st_mtime" not in line
    ]
    assert found == []
