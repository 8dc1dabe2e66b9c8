"""How names and values are written in IMAP: quoted strings, modified UTF-7, UID sets.

Invariant: nothing that a person or a mail chose gets into a command but through `quoted`, which
refuses control characters (a CR LF in a folder's name would be a command of its own).
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from mailroom.imap.failures import ControlCharacter

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_UNSHIFTED = re.compile(r"&|[^\x20-\x7e]+")


def quoted(what: str, value: str) -> str:
    """`value` as a quoted string (RFC 3501 section 9). Raises ControlCharacter, naming `what`."""
    if _CONTROL.search(value):
        raise ControlCharacter(what, value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quoted_folder(name: str) -> str:
    """A folder's name as the argument of a command. Raises ControlCharacter."""
    return quoted("folder", encode_folder(name) if not _CONTROL.search(name) else name)


def encode_folder(name: str) -> str:
    """A folder's name in modified UTF-7 (RFC 3501 section 5.1.3)."""

    def shift(run: re.Match[str]) -> str:
        if run[0] == "&":
            return "&-"
        coded = b64encode(run[0].encode("utf-16-be", "surrogatepass")).decode("ascii")
        return "&" + coded.rstrip("=").replace("/", ",") + "-"

    return _UNSHIFTED.sub(shift, name)


def decode_folder(coded: str) -> str:
    """A folder's name from modified UTF-7; a run that is none stays as it came."""

    def unshift(run: re.Match[str]) -> str:
        if not run[1]:
            return "&"
        padded = run[1].replace(",", "/") + "=" * (-len(run[1]) % 4)
        try:
            return b64decode(padded).decode("utf-16-be")
        except ValueError:
            return run[0]

    return _SHIFTED.sub(unshift, coded)


def uid_set(uids: Iterable[int]) -> str:
    """UIDs as a sequence set (RFC 3501 section 9), neighbours as ranges: `1:3,7`."""
    runs: list[list[int]] = []
    for uid in sorted(set(uids)):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in runs)
