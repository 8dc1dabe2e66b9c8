"""The tag of a ticket, `[#1042-k7f3q]`: signed here, recognised in any subject.

Invariant: only a tag whose MAC verifies under a key of the ring speaks for its number. A number
alone, or one with a wrong MAC, is somebody's claim.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""32 letters without i, l, o, u, which people misread (Crockford's Base32, in lower case)."""
_MISREAD = str.maketrans("ilo", "110")
_LENGTH = 5
"""Letters of the MAC: 25 bits, one guess in 33 million, and each wrong one is seen."""

# [0-9] and not \d, which takes digits of every script. Spaces inside come from mail programs that
# fold a subject in the middle of a word; 15 digits stay inside a bigint.
_TAG = re.compile(r"\[\s*#\s*([0-9]{1,15})(?:\s*-\s*([0-9a-z]{1,20}))?\s*\]", re.IGNORECASE)


@dataclass(frozen=True)
class Ring:
    """Keys, newest first: the newest signs, all verify. The MAC covers the installation too."""

    installation: str
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class Tag:
    """A ticket's number as a subject claims it; `signed` when its MAC is right."""

    number: int
    text: str
    """As it stands in the subject."""
    has_mac: bool
    signed: bool


def sign(ring: Ring, number: int) -> str:
    """The tag of ticket `number`, signed by the newest key: `[#1042-k7f3q]`."""
    return f"[#{number}-{_mac(ring.keys[0], ring.installation, number)}]"


def find(ring: Ring, subject: str) -> Sequence[Tag]:
    """Every ticket number in brackets that a decoded subject holds, from the left.

    Letters may have changed their case, and the look-alikes i, l, o are read as 1, 1, 0.
    """
    return [_tag(ring, found) for found in _TAG.finditer(subject)]


def without(subject: str) -> str:
    """`subject` without any ticket number in brackets."""
    return " ".join(_TAG.sub(" ", subject).split())


def _tag(ring: Ring, found: re.Match[str]) -> Tag:
    number, mac = int(found[1]), found[2]
    signed = mac is not None and _verifies(ring, number, mac)
    return Tag(number, found[0], has_mac=mac is not None, signed=signed)


def _verifies(ring: Ring, number: int, mac: str) -> bool:
    claimed = mac.lower().translate(_MISREAD)
    # Every key is tried, so that the time says nothing about which one nearly fitted.
    verdicts = [
        hmac.compare_digest(_mac(key, ring.installation, number), claimed) for key in ring.keys
    ]
    return any(verdicts)


def _mac(key: bytes, installation: str, number: int) -> str:
    digest = hmac.digest(key, f"{installation}\0{number}".encode(), hashlib.sha256)
    bits = int.from_bytes(digest[:8])
    return "".join(_ALPHABET[bits >> (5 * letter) & 31] for letter in range(_LENGTH))
