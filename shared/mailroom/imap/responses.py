"""What servers answer, read: pure functions over lines and literals.

Invariant: nothing here raises on what a server sends; what cannot be read is left out.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone

_FETCH = re.compile(rb"(?:\* )?\d+ FETCH \(", re.IGNORECASE)
_FLAGS = re.compile(rb"[( ]FLAGS \(([^)]*)\)", re.IGNORECASE)
_NUMBER = {
    name: re.compile(rb"[( ]" + name.encode() + rb" (\d{1,19})(?=[ )]|$)", re.IGNORECASE)
    for name in ("UID", "RFC822.SIZE")
}
_INTERNAL_DATE = re.compile(rb'[( ]INTERNALDATE "([^"]*)"', re.IGNORECASE)
_BODY = re.compile(rb'[( ]BODY\[\](?:<\d+>)? (?:\{\d+\}|"((?:[^"\\]|\\.)*)"|(NIL))', re.IGNORECASE)
_DATE = re.compile(r"\s*(\d{1,2})-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_CODE = re.compile(rb"\[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d{1,19})\]", re.IGNORECASE)
_APPENDUID = re.compile(rb"\[APPENDUID (\d{1,10}) (\d{1,10})\]", re.IGNORECASE)
_LIST = re.compile(rb'(?:LIST|LSUB) \(([^)]*)\) (?:"(?:[^"\\]|\\.)"|NIL) (.*)$', re.IGNORECASE)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(.)")

Line = bytes | bytearray


def _unquoted(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text)


def fetched(lines: Sequence[Line]) -> Iterator[tuple[bytes, bytes | None]]:
    """Each FETCH response as (its text, its literal or None); a literal is a bytearray."""
    text, literal = b"", None
    for line in lines:
        if isinstance(line, bytearray):
            literal = bytes(line)
        elif _FETCH.match(line):
            if text:
                yield text, literal
            text, literal = bytes(line), None
        elif text:
            text += b" " + line
    if text:
        yield text, literal


def number(text: bytes, item: str) -> int | None:
    """The number of a FETCH item: UID or RFC822.SIZE. A keyword among the flags is not taken."""
    found = _NUMBER[item].search(_FLAGS.sub(b"", text))
    return int(found[1]) if found else None


def flags(text: bytes) -> tuple[str, ...]:
    """The flags of a FETCH response, without \\Recent, which says nothing of the mail."""
    found = _FLAGS.search(text)
    names = found[1].decode("ascii", "replace").split() if found else []
    return tuple(name for name in names if name.lower() != "\\recent")


def internal_date(text: bytes) -> datetime | None:
    """The internal date of a FETCH response, aware; None where it is missing or no date."""
    found = _INTERNAL_DATE.search(text)
    date = _DATE.match(found[1].decode("ascii", "replace")) if found else None
    if date is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = date.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    try:
        return datetime(
            int(year),
            _MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=timezone(offset),
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def body(text: bytes, literal: bytes | None) -> bytes | None:
    """The bytes of BODY[], sent as literal or (when short) quoted; None for NIL or none."""
    found = _BODY.search(_FLAGS.sub(b"", text))
    if found is None or found[2]:
        return None
    return literal if found[1] is None else _unquoted(found[1])


def codes(lines: Sequence[Line]) -> dict[str, int]:
    """UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ, as far as SELECT or EXAMINE told them."""
    told: dict[str, int] = {}
    for line in lines:
        for name, value in _CODE.findall(bytes(line)):
            told[name.decode("ascii").upper()] = int(value)
    return told


def append_uid(lines: Sequence[Line]) -> tuple[int, int] | None:
    """UIDVALIDITY and UID of an appended mail (RFC 4315 section 3), where the server tells."""
    found = _APPENDUID.search(bytes(lines[-1])) if lines else None
    return (int(found[1]), int(found[2])) if found else None


def searched(lines: Sequence[Line]) -> list[int]:
    """The UIDs of a SEARCH answer, ascending. Some servers spread them over several lines."""
    uids: set[int] = set()
    for line in lines[:-1]:
        words = bytes(line).split()
        if words and words[0].upper() == b"SEARCH":
            words = words[1:]
        uids.update(int(word) for word in words if word.isdigit())
    return sorted(uids)


def listed(lines: Sequence[Line]) -> Iterator[tuple[frozenset[str], bytes]]:
    """Each LIST response as (attributes in lower case, the folder's name as it was sent)."""
    awaited: frozenset[str] | None = None
    for line in lines[:-1]:
        if isinstance(line, bytearray):
            if awaited is not None:
                yield awaited, bytes(line)
            awaited = None
            continue
        found = _LIST.match(line if line[:4].upper() in {b"LIST", b"LSUB"} else b"LIST " + line)
        if found is None:
            continue
        attributes = frozenset(found[1].decode("ascii", "replace").lower().split())
        name = found[2].strip()
        quoted = _QUOTED.fullmatch(name)
        if name.startswith(b"{"):
            awaited = attributes
        else:
            yield attributes, _unquoted(quoted[1]) if quoted else name
