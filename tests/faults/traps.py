"""A place in a conversation, named by what both sides say: for a proxy to strike there.

Invariant: plain reckoning over the bytes as they come, in pieces of any size; no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["client", "server"]


@dataclass(frozen=True)
class Said:
    """Bytes that one side says."""

    by: Side
    words: bytes


def client(words: bytes = b"") -> Said:
    """The client says this; nothing in particular is anything."""
    return Said("client", words)


def server(words: bytes = b"") -> Said:
    """The server says this."""
    return Said("server", words)


@dataclass(frozen=True)
class Moment:
    """When all this has been said, one after the other, and the last one said `then` bytes more."""

    said: Sequence[Said]
    then: int = 0

    @property
    def by(self) -> Side:
        """Whose words it ends with."""
        return self.said[-1].by


class Waiting:
    """One connection on its way to a moment."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._heard = 0
        """How many of the moment's words have been said."""
        self._tail = b""
        """What may be the beginning of the next ones."""
        self._then = moment.then

    def comes_at(self, side: Side, piece: bytes) -> int | None:
        """Where in this next piece of a side the moment has come; None: not in this one."""
        at = 0
        while self._heard < len(self._moment.said):
            wanted = self._moment.said[self._heard]
            if wanted.by != side:
                return None
            text = self._tail + piece[at:]
            found = text.find(wanted.words)
            if found < 0:
                self._tail = text[-(len(wanted.words) - 1) :] if len(wanted.words) > 1 else b""
                return None
            at += found + len(wanted.words) - len(self._tail)
            self._heard, self._tail = self._heard + 1, b""
        if side != self._moment.by:
            return None
        left = len(piece) - at
        if self._then > left:
            self._then -= left
            return None
        return at + self._then
