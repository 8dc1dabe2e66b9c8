"""The one clock of Mailroom: every due time, age and window is reckoned by `now()`.

Invariant: no other module asks the system for the time of day, but to know how old a file is. A
test moves the clock of all processes, restarted ones too, by writing seconds into the file that
MAILROOM_CLOCK_OFFSET_FILE names; without that variable this is the system's clock.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path


def now() -> datetime:
    """The present moment, aware, in UTC."""
    moment = datetime.now(UTC)
    offset_file = os.environ.get("MAILROOM_CLOCK_OFFSET_FILE")
    if offset_file is None:
        return moment
    offset = Path(offset_file)
    return moment + timedelta(seconds=float(offset.read_text() or 0) if offset.exists() else 0)
