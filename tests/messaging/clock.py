"""The clock that a test holds: `mailroom.clock` reads it in every process."""

from datetime import timedelta
from pathlib import Path


class Clock:
    """Moves all of Mailroom's time, and nobody else's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = timedelta()

    def forward(self, by: timedelta) -> None:
        self._offset += by
        new = self._file.with_suffix(".new")
        new.write_text(str(self._offset.total_seconds()))
        new.replace(self._file)
