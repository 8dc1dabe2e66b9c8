"""Reads the key ring of the tags from its file.

Invariant: a ring that is read can sign and verify; whatever else is in the file is refused before
any mail is, with the line and the remedy, and without showing a key.
"""

from pathlib import Path

from mailroom_ticketing.tags import Ring

_SHORTEST_KEY = 16  # bytes


class TagKeysRefused(Exception):
    """The key ring's file cannot be used; says which line, and the remedy."""


def read_ring(path: Path, installation: str) -> Ring:
    """The ring in a file of `keyid:hex` lines, newest first; `#` starts a comment.

    Raises TagKeysRefused: unreadable, empty, not hex, or a key under 16 bytes.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise TagKeysRefused(f"cannot be read ({unreadable})") from unreadable
    keys = []
    for position, line in enumerate(lines, start=1):
        content = line.partition("#")[0].strip()
        if content:
            keys.append(_key(content, position))
    if not keys:
        raise TagKeysRefused("holds no key: give one line keyid:hex, at least 32 hex digits")
    return Ring(installation, tuple(keys))


def _key(content: str, position: int) -> bytes:
    key_id, _, digits = content.partition(":")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if not key_id.strip() or len(key) < _SHORTEST_KEY:
        raise TagKeysRefused(f"line {position} is not keyid:hex with at least 32 hex digits")
    return key
