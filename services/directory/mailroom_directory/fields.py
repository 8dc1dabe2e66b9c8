"""What people may write into the directory: names and addresses.

Invariant: what passes here has no control character, and a name is never taken for an id.
"""

import re
from uuid import UUID

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}")
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_LOCAL}(?:\.{_LOCAL})*@{_LABEL}(?:\.{_LABEL})*")


class FieldRefused(ValueError):
    """A field that cannot be taken as it is: which, what was given, and what to give instead."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(f"{field} {str(value)!r}: {remedy}")


def name(value: str, field: str = "NAME") -> str:
    """A name that people call a thing by. Raises FieldRefused."""
    if not _NAME.fullmatch(value):
        raise FieldRefused(
            field, value, "1 to 63 letters, digits and . _ @ + -, a letter or digit first"
        )
    if _is_id(value):
        raise FieldRefused(field, value, "looks like an id; give a name")
    return value


def _is_id(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def address(value: str, field: str = "--address") -> str:
    """An addr-spec as SMTP carries it (RFC 5321 section 4.1.2, its lengths 4.5.3.1).

    Quoted local parts and address literals are refused. Raises FieldRefused.
    """
    local, _, domain = value.rpartition("@")
    if not value.isascii():
        raise FieldRefused(field, value, "ASCII alone; write the domain in its xn-- form")
    if not _ADDRESS.fullmatch(value) or len(local) > 64 or len(domain) > 253:
        raise FieldRefused(field, value, "is no address; give one like service@example.com")
    return value


def line(value: str, field: str) -> str:
    """One line of text without control characters. Raises FieldRefused."""
    if not value.isprintable() or len(value) > 200:
        raise FieldRefused(field, value[:80], "one line of at most 200 printable characters")
    return value
