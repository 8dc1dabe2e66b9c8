"""The header of a mail or a part: where it ends, and its raw fields (RFC 5322 section 2.2).

Invariant: at most `LONGEST_HEADER` bytes and `MOST_FIELDS` fields are looked at, and a line that
is no field costs itself, never the fields after it.
"""

import re
from dataclasses import dataclass, field
from typing import Final

LONGEST_HEADER: Final = 1_048_576
MOST_FIELDS: Final = 5_000

_MBOX = re.compile(rb">?From (?![ \t]*:)")  # the line before a mail of an mbox file
_END = re.compile(rb"\n\r{0,2}\n")  # some relays write CR CR LF
_FIELD = re.compile(r"^([!-9;-~]{1,200})[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_LINE = re.compile(r"[^\n]*(?:\n[ \t][^\n]*)*\n?")
_BLANKS: Final = " \t\r"
_CUT_SHORT = re.compile(r";[ \t\r]*$")
_PARAMETER = re.compile(r"[A-Za-z-]{1,30}=")  # of a Content-Type folded without a blank
# A field that tells that a header goes on, after a line which is none.
_WELL_KNOWN = re.compile(
    r"^(?:received|return-path|delivered-to|from|to|cc|bcc|sender|reply-to|subject|date"
    r"|message-id|in-reply-to|references|mime-version|content-[a-z-]+|x-[a-z-]+|dkim-signature"
    r"|list-[a-z-]+|authentication-results)[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(slots=True)
class Fields:
    """Raw fields in order, as latin1 str (a character a byte), unfolded, and by lower-case name."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    named: dict[str, list[str]] = field(default_factory=dict)

    def first(self, name: str) -> str | None:
        """The first value of a field, by its name in lower case."""
        values = self.named.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """All values of a field, in order."""
        return self.named.get(name, [])


def split(raw: bytes, start: int, end: int, defects: list[str]) -> tuple[Fields, int]:
    """The fields of the header that begins at `start`, and where its body begins."""
    if raw[start : start + 1] == b"\n" or raw[start : start + 2] == b"\r\n":
        return Fields(), min(end, raw.index(b"\n", start) + 1)
    if _MBOX.match(raw, start, end):
        start = raw.find(b"\n", start, end) + 1 or end
    found = _END.search(raw, start, end)
    header_end = found.start() if found else end
    body = found.end() if found else end
    block = raw[start : min(header_end, start + LONGEST_HEADER)].decode("latin_1")
    if header_end - start > LONGEST_HEADER:
        defects.append("header cut at 1 MB")
    pairs = _FIELD.findall(block)
    lines = block.count("\n") + 1 - block.count("\n ") - block.count("\n\t")
    if len(pairs) != lines and block.strip():
        pairs, stray = _among_strays(block, defects)
        body = body if stray is None else start + stray
    if len(pairs) > MOST_FIELDS:
        defects.append(f"header fields cut at {MOST_FIELDS}")
        del pairs[MOST_FIELDS:]
    return _fields(pairs), body


def _fields(pairs: list[tuple[str, str]]) -> Fields:
    unfolded_pairs: list[tuple[str, str]] = []
    named: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\n" in value:
            unfolded = " ".join([line.strip(_BLANKS) for line in value.split("\n")])
        else:
            unfolded = value.rstrip(_BLANKS)
        unfolded_pairs.append((name, unfolded))
        lower = name.lower()
        if lower in named:
            named[lower].append(unfolded)
        else:
            named[lower] = [unfolded]
    return Fields(unfolded_pairs, named)


def _among_strays(block: str, defects: list[str]) -> tuple[list[tuple[str, str]], int | None]:
    """Fields among lines that are none, and where the body begins if no blank line says so.

    A stray line is skipped when well-known fields follow; else the body begins with it.
    """
    pairs: list[tuple[str, str]] = []
    known = [match.start() for match in _WELL_KNOWN.finditer(block)]
    last_known = known[-1] if known else -1
    at = 0
    while at < len(block):
        match = _FIELD.match(block, at)
        if match is not None and (last_known >= 0 or pairs):
            pairs.append((match[1], match[2]))
            at = match.end() + 1
            continue
        if pairs and _CUT_SHORT.search(pairs[-1][1]) and _PARAMETER.match(block, at):
            line = block[at:].split("\n", 1)[0]
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {line}")
            at += len(line) + 1
            continue
        if block[at] not in "\r\n":
            if at > last_known:
                defects.append("no blank line between header and body")
                return pairs, at
            if "a line of the header is no field" not in defects:
                defects.append("a line of the header is no field")
        skipped = _LINE.match(block, at)
        at = skipped.end() if skipped and skipped.end() > at else at + 1
    return pairs, None
