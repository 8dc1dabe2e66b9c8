"""What a server lists of a mail, and how much of it is asked for at a time. Plain data."""

from dataclasses import dataclass
from datetime import datetime

BODIES = 50
"""Bodies a command, at most: measured, more are slower."""
BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of bodies a command, at most; a larger mail comes in pieces."""


@dataclass(frozen=True)
class Listed:
    """A mail as the server lists it. `size` is the server's word, and not always right."""

    uid: int
    size: int
    internal_date: datetime | None
    """None where the server tells none, or none that is a date."""
    flags: tuple[str, ...]
