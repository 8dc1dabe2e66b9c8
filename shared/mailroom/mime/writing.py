"""Header fields as we write them: ASCII, folded, words encoded (RFC 5322, 2047, 2231, 5890).

Written here because the standard library's folding loses the quotes of a long display name (one
recipient becomes many), cuts encoded names inside a character, and lets a literal "=?…?=" be
decoded (Python 3.11). Invariant: no control character passes; no line is longer than 998 bytes;
what is written is read back as it was given.
"""

import binascii
import re
from collections.abc import Iterable
from typing import Final

import idna

from mailroom.mime.model import Address

FOLD: Final = 76  # characters of a line, where it can be folded (RFC 5322 section 2.1.1: 78)
_LONGEST_WORD: Final = 900  # a longer one is encoded, since a line ends at 998
# Bytes of UTF-8 in one encoded word: what fits a line behind "Subject: ", and the most there may
# be (RFC 2047 section 2), for names: Python's own reader puts a blank between two words of a name.
_WORD_OF_TEXT: Final = 39
_WORD_OF_NAME: Final = 45

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ATOMS = re.compile(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+$")
_DOT_ATOM = re.compile(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
_QUOTED_LOCAL = re.compile(r'^"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"$')
_DOMAIN = re.compile(r"^(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*$")
_LITERAL = re.compile(r"^\[[\x21-\x5a\x5e-\x7e]{1,80}\]$")
_ID = re.compile(r"^[\x21-\x3b\x3d\x3f-\x7e]{1,900}$")
# Without ";": readers that do not know of quotes cut the value there.
_PLAIN_PARAMETER = re.compile(r"^[A-Za-z0-9 !#$&+.^_`{|}~()\[\],:@=/?'-]*$")
_TOKEN_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class HeaderRefused(Exception):
    """A value cannot stand in a header: a control character, or no address, name, type or id."""

    def __init__(self, field: str, value: str, remedy: str) -> None:
        super().__init__(f"{field} {value[:200]!r}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy


def checked(field: str, value: str) -> str:
    """The value, if no control character and no lone surrogate is in it."""
    if _CONTROL.search(value):
        raise HeaderRefused(field, value, "remove line ends and control characters")
    return value


def unstructured(field: str, value: str) -> str:
    """A line such as `Subject: …`, its words encoded where they must be, the others as they are.

    Plain words stay outside of encoded words, so that a tag stays readable for whoever searches
    the raw subject. Several blanks in a row are encoded too, since a relay may fold there.
    """
    if not checked(field, value).strip():
        return f"{field}:"
    written: list[str] = []
    run: list[str] = []
    for word in value.strip().split(" "):
        if _must_encode(word):
            run.append(word)
        elif run and not any(run):  # only further blanks: an encoded word is never empty
            written += encoded_words(" ".join([*run, word]))
            run = []
        else:
            written += encoded_words(" ".join(run)) if run else []
            written.append(word)
            run = []
    return _folded(field, written + (encoded_words(" ".join(run)) if run else []))


def _must_encode(word: str) -> bool:
    return word == "" or not word.isascii() or "=?" in word or len(word) > _LONGEST_WORD


def encoded_words(text: str, most: int = _WORD_OF_TEXT) -> list[str]:
    """Encoded words in UTF-8 and base64, none cut inside a character (RFC 2047 section 5)."""
    chunks: list[bytes] = [b""]
    for character in text:
        data = character.encode("utf-8")
        if len(chunks[-1]) + len(data) > most:
            chunks.append(b"")
        chunks[-1] += data
    return [f"=?utf-8?B?{binascii.b2a_base64(c, newline=False).decode()}?=" for c in chunks]


def _folded(field: str, words: Iterable[str]) -> str:
    """Words parted by one blank, folded before the word that would make a line too long."""
    lines = [f"{field}:"]
    for word in words:
        begun = lines[-1] and lines[-1] != f"{field}:"  # no line is left with the name alone
        if begun and len(lines[-1]) + 1 + len(word) > FOLD:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


def addresses(field: str, mailboxes: Iterable[Address]) -> str:
    """A line such as `To: …` (RFC 5322 section 3.4)."""
    words: list[str] = []
    for mailbox in mailboxes:
        if words:
            words[-1] += ","
        words += _mailbox(field, mailbox)
    return _folded(field, words)


def _mailbox(field: str, mailbox: Address) -> list[str]:
    spec = addr_spec(field, mailbox.address)
    name = checked(field, mailbox.name).strip()
    return [*_phrase(name), f"<{spec}>"] if name else [spec]


def _phrase(name: str) -> list[str]:
    """A display name: atoms, else one quoted string, else encoded words."""
    if not name.isascii() or "=?" in name or len(name) > FOLD * 3:
        return encoded_words(name, _WORD_OF_NAME)
    if _ATOMS.match(name) and "  " not in name:
        return name.split(" ")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def addr_spec(field: str, address: str) -> str:
    """`local@domain` in ASCII: the domain by IDNA 2008, the local part must be ASCII (no SMTPUTF8).

    A local part needs no quotes, or has them (RFC 5321 section 4.1.2).
    """
    local, at, domain = checked(field, address).rpartition("@")
    if not at:
        raise HeaderRefused(field, address, "write it as name@domain")
    if not local.isascii():
        remedy = "the part before @ must be ASCII; ask for another address of this person"
        raise HeaderRefused(field, address, remedy)
    if not (_DOT_ATOM.match(local) or _QUOTED_LOCAL.match(local)):
        raise HeaderRefused(field, address, "the part before @ is not valid (RFC 5321)")
    return f"{local}@{_domain(field, address, domain)}"


def _domain(field: str, address: str, domain: str) -> str:
    if _LITERAL.match(domain):
        return domain
    try:
        written = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        written = ""
    if not _DOMAIN.match(written):
        raise HeaderRefused(field, address, "the domain is not valid (RFC 5890)")
    return written


def message_id(field: str, value: str) -> str:
    """A line with one Message-ID, given without angle brackets."""
    if not _ID.match(checked(field, value)):
        raise HeaderRefused(field, value, "write it as ASCII without blanks and angle brackets")
    return _folded(field, [f"<{value}>"])


def message_ids(field: str, values: Iterable[str]) -> str:
    """A line of Message-IDs; foreign ones that no header can hold are left out."""
    return _folded(field, [f"<{value}>" for value in values if _ID.match(checked(field, value))])


def parameter(field: str, name: str, value: str) -> list[str]:
    """`; name="value"`, or its extended, perhaps continued form (RFC 2231 sections 3 and 4)."""
    checked(field, value)
    if _PLAIN_PARAMETER.match(value) and "=?" not in value and len(value) <= FOLD * 3:
        return [f'{name}="{value}"']
    pieces = [""]
    for character in value:
        escaped = "".join(
            chr(b) if b in _TOKEN_CHARACTERS else f"%{b:02X}" for b in character.encode("utf-8")
        )
        if len(pieces[-1]) + len(escaped) > FOLD - 24:
            pieces.append("")
        pieces[-1] += escaped
    if len(pieces) == 1:
        return [f"{name}*=utf-8''{pieces[0]}"]
    first, *rest = pieces
    return [f"{name}*0*=utf-8''{first}"] + [
        f"{name}*{index}*={piece}" for index, piece in enumerate(rest, start=1)
    ]


def structured(field: str, value: str, parameters: Iterable[str] = ()) -> str:
    """A line such as `Content-Type: text/plain; charset="utf-8"`."""
    listed = list(parameters)
    words = [value, *listed]
    return _folded(field, [f"{word};" for word in words[:-1]] + words[-1:])
