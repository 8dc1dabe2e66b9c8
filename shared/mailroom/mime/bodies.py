"""What a person sees of the tree of parts: text, HTML, attachments.

Invariant: every leaf is either shown as text or listed as an attachment under a number with which
`part` finds its bytes again; files packed inside a part (uuencode, TNEF) are "2-1", "2-2" …
"""

import re
from dataclasses import dataclass, field
from mimetypes import MimeTypes
from typing import Final

from mailroom.mime import tnef
from mailroom.mime.charsets import clean, decode, one_line
from mailroom.mime.html import LONGEST as LONGEST_HTML
from mailroom.mime.html import text_of
from mailroom.mime.model import Attachment
from mailroom.mime.structure import Part, uudecoded
from mailroom.mime.words import decoded, parameters, token

LONGEST_TEXT: Final = 5_000_000  # bytes of text and HTML of one mail that are read
MOST_PACKED: Final = 100

_SHOWN: Final = {"text/plain", "text/html"}
_TYPES: Final = MimeTypes()  # of Python alone: the machine's own table changes nothing
_CODED: Final = frozenset({"base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue"})
_UU_FILE = re.compile(
    rb"^begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n"
    rb"(?:[\x20-\x60]{2,62}+[^\r\n]{0,4}+\r?\n)++"
    rb"(?:[ `]?\r?\n)?end[ \t]*(?=\r?\n|\Z)\r?\n?",
    re.MULTILINE,
)
_DISPOSITION = re.compile(r"[ \t]*([A-Za-z-]{1,30})[ \t]*(?:[;(]|$)")  # RFC 2183
_BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_WINDOWS_PATH = re.compile(r"^[A-Za-z]:\\|^\\\\")
_PGP_BEGIN: Final = "-----BEGIN PGP MESSAGE-----"


@dataclass(slots=True)
class Bodies:
    """What one pass over the tree found."""

    defects: list[str]
    plain: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    calendar: str | None = None
    encrypted: bool = False
    charset: str | None = None  # of the first text: a hint for raw 8 bit in headers
    left: int = LONGEST_TEXT

    def within_limit(self, data: bytes) -> bytes:
        """As much of a text as may still be read, cut at a line end if there is one near."""
        if len(data) > self.left:
            self.note(f"text cut at {LONGEST_TEXT} bytes")
            line_end = data.rfind(b"\n", max(self.left - 10_000, 0), self.left)
            data = data[: line_end + 1 if line_end >= 0 else self.left]
        self.left -= len(data)
        return data

    def note(self, defect: str | None) -> None:
        """Tell a defect once."""
        if defect and defect not in self.defects:
            self.defects.append(defect)

    @property
    def text(self) -> str:
        """The plain parts one below the other, or the text of the HTML where they are blank."""
        plain = "\n".join(self.plain)
        if not plain.strip() and self.html:
            html = "\n".join(self.html)
            if len(html) > LONGEST_HTML:
                self.note(f"text made of the first {LONGEST_HTML} characters of HTML")
            return text_of(html)
        return plain


def bodies(root: Part, defects: list[str]) -> Bodies:
    """Text, HTML and attachments of a tree."""
    found = Bodies(defects)
    _visit(root, found, shown=True)
    return found


def _visit(part: Part, found: Bodies, *, shown: bool) -> None:
    """`shown`: whether a text here is for the reader, or belongs to something (RFC 2387, 1847)."""
    if not part.children:
        _leaf(part, found, shown=shown)
        return
    if part.type == "multipart/encrypted":  # RFC 1847 section 2.2
        found.encrypted = True
        found.note("encrypted (OpenPGP)")
        shown = False
    if part.type == "multipart/alternative":
        _alternatives(part, found, shown=shown)
        return
    only_first = part.type in {"multipart/related", "multipart/signed", "multipart/report"}
    root = _root_of(part) if part.type == "multipart/related" else part.children[0]
    for child in part.children:
        _visit(child, found, shown=shown and (child is root or not only_first))


def _root_of(related: Part) -> Part:
    """The part that `start` names (RFC 2387 section 3.2), or the first that can be a root."""
    start = related.parameters.get("start", "").strip("<> ")
    for child in related.children:
        if start and (child.fields.first("content-id") or "").strip("<> ") == start:
            return child
    for child in related.children:
        if child.type in {"text/html", "text/plain"} or child.is_multipart:
            return child
    return related.children[0]


def _alternatives(part: Part, found: Bodies, *, shown: bool) -> None:
    """One plain and one HTML rendering of the same thing (RFC 2046 section 5.1.4)."""
    plain, html = len(found.plain), len(found.html)
    for child in part.children:
        spare = (child.type == "text/plain" and len(found.plain) > plain) or (
            child.type == "text/html" and len(found.html) > html
        )
        _visit(child, found, shown=shown and not spare)


def _leaf(part: Part, found: Bodies, *, shown: bool) -> None:
    declared = _DISPOSITION.match(part.fields.first("content-disposition") or "")
    disposition = declared[1].lower() if declared else None
    name = filename(part, found.charset)
    seen = bool(found.plain or found.html)
    if shown and part.type in _SHOWN and disposition != "attachment" and not (name and seen):
        _text(part, found)
        return
    if part.type in {"text/calendar", "application/ics"}:  # RFC 5546 section 3.2
        found.calendar = token(part.parameters.get("method", "")).upper() or "PUBLISH"
    packed_by_outlook = part.type in tnef.TYPES or (name or "").lower() == "winmail.dat"
    if packed_by_outlook and _tnef(part, found):
        return
    _note_kind(part, found)
    found.attachments.append(
        Attachment(part.number, name, part.type, _size(part), disposition, _cid(part))
    )


def _note_kind(part: Part, found: Bodies) -> None:
    if part.encrypted:
        found.encrypted = True
        found.note("encrypted (S/MIME)")
    if part.type == "message/partial":  # RFC 2046 section 5.2.2
        number, total = (part.parameters.get(key, "?")[:9] for key in ("number", "total"))
        found.note(f"part {number} of {total} of a split mail")


def _text(part: Part, found: Bodies) -> None:
    data = found.within_limit(part.content())
    charset = token(part.parameters["charset"]) if part.parameters.get("charset") else None
    text, defect = decode(data, charset)
    found.note(defect)
    found.charset = found.charset or charset
    text = _line_feeds(text)
    if part.type == "text/html":
        found.html.append(text)
        return
    if "begin " in text and _UU_FILE.search(data):
        text = _without_uuencoded(part, data, charset, found)
    if text.lstrip().startswith(_PGP_BEGIN):
        found.encrypted = True
        found.note("encrypted (OpenPGP)")
    found.plain.append(text)


def _without_uuencoded(part: Part, data: bytes, charset: str | None, found: Bodies) -> str:
    for index, match in enumerate(_UU_FILE.finditer(data), start=1):
        if index > MOST_PACKED:
            found.note(f"uuencoded files cut at {MOST_PACKED}")
            break
        name = safe_name(decode(match[1], charset)[0])
        size = len(uudecoded(match[0]))
        number = f"{part.number}-{index}"
        found.attachments.append(
            Attachment(number, name or None, _type_of(name), size, "attachment", None)
        )
    text, _ = decode(_UU_FILE.sub(b"", data), charset)
    return _line_feeds(text)


def _line_feeds(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if "\r" in text:  # of CR CR LF, which some relays write, or alone
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _tnef(part: Part, found: Bodies) -> bool:
    unpacked = tnef.unpack(part.content())
    if unpacked is None:
        found.note("winmail.dat could not be unpacked")
    if unpacked is None or not (unpacked.files or unpacked.text or unpacked.html):
        return False
    for index, (name, content) in enumerate(unpacked.files, start=1):
        number = f"{part.number}-{index}"
        safe = safe_name(name)
        found.attachments.append(
            Attachment(number, safe or None, _type_of(safe), len(content), "attachment", None)
        )
    if not any(text.strip() for text in (*found.plain, *found.html)):
        found.plain.append(_line_feeds(clean(unpacked.text[:LONGEST_TEXT])))
        found.html += [_line_feeds(clean(unpacked.html[:LONGEST_TEXT]))] if unpacked.html else []
    return True


def _type_of(name: str) -> str:
    """By the name, since neither uuencode nor TNEF tells a type."""
    return _TYPES.guess_type(name)[0] or "application/octet-stream"


def packed(part: Part, index: int) -> bytes | None:
    """The bytes of the file number `index` that is packed inside of a part, or None."""
    data = part.content()
    if part.type == "text/plain":
        files = [match[0] for match in _UU_FILE.finditer(data[:LONGEST_TEXT])]
        return uudecoded(files[index - 1]) if 0 < index <= len(files) else None
    unpacked = tnef.unpack(data)
    if unpacked is None or not 0 < index <= len(unpacked.files):
        return None
    return unpacked.files[index - 1][1]


def filename(part: Part, hint: str | None) -> str | None:
    """The name by Content-Disposition, else by Content-Type (RFC 2183 section 2.3)."""
    disposition = part.fields.first("content-disposition")
    if disposition and "name" in disposition.lower():
        given = parameters(disposition, hint)
        name = given.get("filename") or given.get("name")
        if name:
            return safe_name(name) or None
    name = part.parameters.get("name") or part.parameters.get("filename")
    return (safe_name(name) or None) if name else None


def safe_name(name: str) -> str:
    """On one line, without a path and without characters that turn the direction of reading."""
    line = _BIDI.sub("", one_line(name))
    if _WINDOWS_PATH.match(line):
        line = line.rsplit("\\", 1)[-1]
    return line.rsplit("/", 1)[-1].strip() if "/" in line else line


def _size(part: Part) -> int:
    return len(part.content()) if part.encoding in _CODED else part.end - part.start


def _cid(part: Part) -> str | None:
    value = part.fields.first("content-id")
    return decoded(value).strip("<> ") or None if value else None
