"""The tree of parts (RFC 2045, 2046): where each part's bytes lie, and its decoded content.

Invariant: the raw bytes are never copied before a part is decoded, and the walk stops at
`MOST_PARTS` parts and `DEEPEST` levels, so that the cost of any mail is bounded by its size.

This walk is our own because neither reader at hand may be trusted alone: fast-mail-parser takes
one boundary for another that begins like it and gives no raw header of a part (file names
arrive as mojibake); `email` needs several times the mail's size in memory, 60 ms a megabyte,
and recurses. Both serve as witnesses in the tests: on sound mails all three agree.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from mailroom.mime import smime
from mailroom.mime.fields import Fields, split
from mailroom.mime.words import base64, parameters, token

MOST_PARTS: Final = 1_000
DEEPEST: Final = 30

_TYPE = re.compile(r'^[\s"]*([!#-\'*+\-.0-9A-Z^-z|~]+)\s*/\s*([!#-\'*+\-.0-9A-Z^-z|~]+)')
_ENCODING = re.compile(r"[ \t\"]*([A-Za-z0-9-]+)")
_SPACED_SOFT_BREAK = re.compile(rb"=[ \t]+\r?\n")  # RFC 2045 section 6.7
_UUENCODE: Final = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})
_BOUNDARY_LINE = re.compile(rb"^--(\S{1,70})[ \t]*\r?\nContent-", re.MULTILINE | re.IGNORECASE)
_UU = re.compile(rb"^begin [0-7]{3,4} [^\r\n]*\r?\n", re.MULTILINE)


@dataclass(slots=True)
class Part:
    """One node: its raw header, its type, and the range of its body in `raw`.

    `number` is IMAP's (RFC 3501 section 6.4.5): "1" for the body of a mail without parts.
    """

    number: str
    raw: bytes
    start: int
    end: int
    fields: Fields
    type: str
    parameters: Mapping[str, str]
    children: list["Part"] = field(default_factory=list)
    encrypted: bool = False

    @property
    def is_multipart(self) -> bool:
        """Whether it holds parts, by its type."""
        return self.type.startswith("multipart/")

    @property
    def body(self) -> bytes:
        """The bytes as they came."""
        return self.raw[self.start : self.end]

    @property
    def encoding(self) -> str:
        """The Content-Transfer-Encoding, in lower case."""
        declared = _ENCODING.match(self.fields.first("content-transfer-encoding") or "")
        return declared[1].lower() if declared else ""

    def content(self) -> bytes:
        """The bytes without their Content-Transfer-Encoding (RFC 2045 section 6)."""
        encoding = self.encoding
        if encoding == "base64":
            return base64(self.body)
        if encoding == "quoted-printable":
            return _unquoted(self.body)
        if encoding in _UUENCODE:
            return uudecoded(self.body) or self.body
        return self.body


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part stands: its number, its depth, and its type if it declares none."""

    number: str
    depth: int
    default: str


@dataclass(slots=True)
class Walk:
    """What one walk has seen: how many parts, and what was wrong."""

    defects: list[str]
    parts: int = 0

    def note(self, defect: str) -> None:
        """Tell a defect once."""
        if defect not in self.defects:
            self.defects.append(defect)


def tree(raw: bytes, defects: list[str]) -> Part:
    """The root part of a mail. Never raises; whatever is wrong is noted in `defects`."""
    text = raw.removeprefix(b"\xef\xbb\xbf") if raw.startswith(b"\xef\xbb\xbf") else raw
    start = len(raw) - len(text.lstrip(b"\r\n"))
    walk = Walk(defects)
    return _part(raw, (start, len(raw)), Place("", 0, "text/plain"), walk)


def _part(raw: bytes, span: tuple[int, int], place: Place, walk: Walk) -> Part:
    fields, body = split(raw, *span, walk.defects)
    kind, given = _content_type(fields, place.default, walk)
    part = Part(place.number or "1", raw, min(body, span[1]), span[1], fields, kind, given)
    walk.parts += 1
    if part.is_multipart:
        _open(part, place, walk)
    elif kind in smime.TYPES:
        _open_envelope(part, place, walk)
    return part


def _open_envelope(part: Part, place: Place, walk: Walk) -> None:
    """Read through an opaque S/MIME signature, as if its content were a part of it."""
    inner, part.encrypted = smime.opened(part.content())
    if inner is not None and place.depth < DEEPEST:
        part.type = "multipart/signed"
        number = f"{part.number}.1"
        child = Place(number, place.depth + 1, "text/plain")
        part.children.append(_part(inner, (0, len(inner)), child, walk))


def _content_type(fields: Fields, default: str, walk: Walk) -> tuple[str, Mapping[str, str]]:
    """Type in lower case and parameters; of a value that is no type as much as can be saved."""
    value = fields.first("content-type")
    if not value:
        return default, {}
    given = parameters(value)
    match = _TYPE.match(value)
    if match is not None:
        return f"{match[1]}/{match[2]}".lower(), given
    walk.note("Content-Type is no type")
    word = value.split(";", 1)[0].strip(" \t/").lower()
    if word == "multipart" and "boundary" in given:
        return "multipart/mixed", given
    if word == "html":
        return "text/html", given
    return ("application/octet-stream" if "name" in given else "text/plain"), given


def _open(part: Part, place: Place, walk: Walk) -> None:
    """Cut a multipart into its children (RFC 2046 section 5.1)."""
    if place.depth >= DEEPEST:
        walk.note(f"parts nested deeper than {DEEPEST}")
        part.type = "application/octet-stream"
        return
    spans = _spans(part, walk)
    if not spans:
        # As text, which is what readers show, so that a person still sees what is there.
        walk.note("multipart without parts")
        part.type = "text/plain"
        return
    default = "message/rfc822" if part.type == "multipart/digest" else "text/plain"
    for index, span in enumerate(spans, start=1):
        if walk.parts >= MOST_PARTS:
            walk.note(f"parts cut at {MOST_PARTS}")
            return
        number = f"{place.number}.{index}" if place.number else str(index)
        part.children.append(_part(part.raw, span, Place(number, place.depth + 1, default), walk))


def _spans(part: Part, walk: Walk) -> list[tuple[int, int]]:
    """The children's ranges, by the boundary as declared, without comment, or as it seems."""
    declared = part.parameters.get("boundary", "")
    for boundary in filter(None, (declared, token(declared))):
        spans = _between(part, boundary.encode("utf-8"), walk)
        if spans:
            return spans
    seeming = _BOUNDARY_LINE.search(part.raw, part.start, part.end)
    if seeming is None:
        return []
    walk.note("boundary is not the declared one" if declared else "no boundary declared")
    return _between(part, seeming[1], walk)


def _between(part: Part, boundary: bytes, walk: Walk) -> list[tuple[int, int]]:
    """The ranges between the delimiter lines, without the line end that belongs to each line."""
    spans: list[tuple[int, int]] = []
    begun = -1
    for line_start, line_end, closes in _delimiters(part, b"--" + boundary):
        if begun >= 0:
            spans.append((begun, max(begun, _before_line_end(part.raw, line_start))))
        if closes:
            return spans
        if len(spans) >= MOST_PARTS:
            walk.note(f"parts cut at {MOST_PARTS}")
            return spans
        begun = line_end
    if begun >= 0:
        walk.note("multipart has no end")
        spans.append((begun, part.end))
    return spans


def _delimiters(part: Part, mark: bytes) -> Iterator[tuple[int, int, bool]]:
    """Each delimiter line: where it starts, where the next line starts, whether it closes."""
    raw, end = part.raw, part.end
    at = part.start
    if not raw.startswith(mark, at, end):
        at = _next_line(raw, mark, at, end)
    while at >= 0:
        after = at + len(mark)
        line_end = raw.find(b"\n", after, end)
        line_end = end if line_end < 0 else line_end + 1
        rest = raw[after : min(line_end, after + 100)].strip()
        if rest in {b"", b"--"}:  # else another boundary that begins like this one
            yield at, line_end, rest == b"--"
        at = _next_line(raw, mark, after, end)


def _next_line(raw: bytes, mark: bytes, start: int, end: int) -> int:
    """Where the next line that begins with `mark` starts, or -1."""
    found = raw.find(b"\n" + mark, start, end)
    return found + 1 if found >= 0 else -1


def _before_line_end(raw: bytes, at: int) -> int:
    return at - 2 if raw[at - 2 : at] == b"\r\n" else at - 1


def _unquoted(body: bytes) -> bytes:
    """Quoted-printable; behind a soft line break a relay may have added blanks."""
    if b"= " in body or b"=\t" in body:
        body = _SPACED_SOFT_BREAK.sub(b"=\n", body)
    return binascii.a2b_qp(body)


def uudecoded(data: bytes) -> bytes:
    """The first uuencoded file in `data`, leniently; nothing where none begins."""
    begin = _UU.search(data)
    if begin is None:
        return b""
    decoded = bytearray()
    for line in BytesIO(data[begin.end() :]):
        stripped = line.rstrip(b"\r\n")
        if stripped.strip() in {b"end", b"`", b""}:
            break
        decoded += _uuline(stripped)
    return bytes(decoded)


def _uuline(line: bytes) -> bytes:
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # Old encoders pad the last line with garbage: its first character tells the length.
        needed = (((line[0] - 32) & 63) * 4 + 5) // 3
        try:
            return binascii.a2b_uu(line[:needed])
        except binascii.Error:
            return b""
