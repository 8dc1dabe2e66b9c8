"""The clock is the system's, unless a test moves it for all processes by a file."""

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
