"""Header values to what a person reads: encoded words (RFC 2047) and parameters (RFC 2045, 2231).

A raw value is a str of latin1: each character is one byte of the mail. So only ASCII blanks are
blanks in it: what Python takes for more (U+0085, U+00A0) are bytes inside of UTF-8 characters.
Invariant: what leaves here went through `charsets`, so that no CR or LF hidden in an encoded word
becomes a header of an answer (Python before 3.11.15 lets it), and no expression backtracks more
than linearly.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Final
from urllib.parse import unquote_to_bytes

from mailroom.mime.charsets import decode, one_line

BLANKS: Final = " \t\r\n"
LONGEST_VALUE: Final = 262_144  # characters of one header value that are looked at
MOST_PARAMETERS: Final = 200
_LONG: Final = 8_000  # characters from which on a value is cut where it is kept
_SHORT: Final = 500  # characters of a value whose reading is remembered
MOST_RUNS: Final = 10_000  # of base64 within one body, each with a padding of its own

# "=" may stand before the end mark (base64's padding), not before a next word's begin: so a
# value of a hundred thousand begins without an end costs no more than its length.
_WORD = re.compile(
    r"=\?([^?\s=]{1,75})\?([bBqQ])\?((?:[^?=]|=(?!\?)|=(?=\?=)|\?(?!=))*)\?=",
    re.DOTALL | re.ASCII,
)
_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)
_BASE64_LINE = re.compile(rb"\s*[A-Za-z0-9+/]+[ \t]*(?:\r?\n|$)")
_RUN = re.compile(rb"[^=]+")  # of base64 up to its padding
_PARAMETER = re.compile(
    r';\s*([^\s=;"]{1,100})\s*=\s*(?:"((?:[^"\\]|\\.)*)"[^;]*|([^;]*))',
    re.DOTALL | re.ASCII,
)
_ESCAPED = re.compile(r'\\(["\\])')
_CONTINUED = re.compile(r"^(.+?)\*(\d{1,3})?(\*)?$")
_COMMENT_AFTER = re.compile(r"\s+\([^()]*\)\s*$", re.ASCII)


def base64(data: bytes) -> bytes:
    """Decoded leniently: foreign characters skipped, padding mended, several runs joined."""
    first_pad = data.find(b"=")
    if first_pad < 0 or not data[first_pad:].strip(b"= \t\r\n"):
        try:
            return binascii.a2b_base64(data)
        except binascii.Error:
            return _quanta(data)
    joined = bytearray()
    for run in islice(_RUN.finditer(data), MOST_RUNS):
        if joined and not _BASE64_LINE.match(run[0]):
            break  # a list's footer, say, below the encoded text
        joined += _quanta(run[0])
    return bytes(joined)


def _quanta(run: bytes) -> bytes:
    """Base64 without its padding."""
    letters = run.translate(None, _NOT_BASE64)
    whole = letters[:-1] if len(letters) % 4 == 1 else letters
    return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))


def is_plain(value: str) -> bool:
    """Whether a raw value, as it is, is what a person reads."""
    return value.isascii() and value.isprintable() and "=?" not in value and len(value) < _LONG


def decoded(value: str, hint: str | None = None) -> str:
    """A raw header value as a person reads it, on one line. `hint`: charset of raw 8 bit."""
    if is_plain(value):  # as nearly all are
        return value.strip()
    if "=?" not in value:
        return one_line(value if value.isascii() else _raw(value, hint))
    return _remembered(value, hint) if len(value) <= _SHORT else _words(value, hint)


def _words(value: str, hint: str | None) -> str:
    return one_line("".join(_pieces(value, hint)))


# The same names and subjects come again, within a mail and between mails.
_remembered = lru_cache(maxsize=256)(_words)


def _raw(value: str, hint: str | None) -> str:
    return decode(value.encode("latin_1"), None, hint)[0] if not value.isascii() else value


def _pieces(value: str, hint: str | None) -> Iterator[str]:
    """Text between encoded words as it is; white space between two of them is dropped.

    Neighbours of one charset are decoded together, since senders split inside a character.
    """
    at = 0
    charset = ""
    words: list[tuple[str, str]] = []
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        at = match.end()
        name = match[1].split("*", 1)[0]  # RFC 2231 section 5: a language may follow
        foreign = bool(between.strip(BLANKS))
        if words and (foreign or name.lower() != charset.lower()):
            yield decode(_join(words), charset)[0]
            words = []
        if foreign or (between and not charset):
            yield _raw(between, hint)
        charset = name
        words.append((match[2].lower(), match[3]))
    if words:
        yield decode(_join(words), charset)[0]
    yield _raw(value[at:], hint)


def _join(words: list[tuple[str, str]]) -> bytes:
    """The bytes of encoded words; base64 cut inside a quantum goes on in the next word."""
    joined = b""
    held = ""
    for encoding, text in words:
        if encoding == "b":
            held += text
            if len(held) % 4 == 0 or held.endswith("="):
                joined += base64(held.encode("latin_1"))
                held = ""
            continue
        joined += base64(held.encode("latin_1"))
        held = ""
        joined += binascii.a2b_qp(text.replace(" ", "_").encode("latin_1"), header=True)
    return joined + base64(held.encode("latin_1"))


def parameters(value: str, hint: str | None = None) -> Mapping[str, str]:
    """The parameters of a raw Content-Type or Content-Disposition, names in lower case.

    RFC 2231 (continued, percent-encoded), and what is used in its stead: encoded words, raw
    8 bit, blanks without quotes. Of one name given both ways the extended one counts.
    """
    return _known(value, hint) if len(value) <= _SHORT else _parameters(value, hint)


def _parameters(value: str, hint: str | None) -> Mapping[str, str]:
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for count, match in enumerate(_PARAMETER.finditer(value[:LONGEST_VALUE])):
        if count == MOST_PARAMETERS:
            break
        name = match[1].lower()
        given = _ESCAPED.sub(r"\1", match[2]) if match[2] is not None else _bare(match[3])
        continued = _CONTINUED.match(name)
        if continued is None:
            plain.setdefault(name, given)
            continue
        index = int(continued[2] or 0)
        extended = continued[3] is not None or continued[2] is None
        pieces.setdefault(continued[1], {}).setdefault(index, (given, extended))
    found = {name: decoded(given, hint) for name, given in plain.items()}
    for name, segments in pieces.items():
        found[name] = _extended([segments[index] for index in sorted(segments)], hint)
    return found


_known = lru_cache(maxsize=256)(_parameters)


def _bare(given: str) -> str:
    """A value without quotes, or whose closing quote is missing."""
    return given.strip(BLANKS).removeprefix('"')


def _extended(segments: list[tuple[str, bool]], hint: str | None) -> str:
    """RFC 2231 sections 3 and 4: the first segment may say charset'language'."""
    if not any(extended for _, extended in segments):
        return decoded("".join(given for given, _ in segments), hint)
    first, _ = segments[0]
    charset: str | None = None
    if first.count("'") >= 2:
        charset, _, first = first.split("'", 2)
    data = b"".join(
        unquote_to_bytes(given.encode("latin_1")) if extended else given.encode("latin_1")
        for given, extended in [(first, segments[0][1]), *segments[1:]]
    )
    return one_line(decode(data, charset or None, hint)[0])


def token(value: str) -> str:
    """A parameter that is a name (charset, boundary): without a comment behind it."""
    return _COMMENT_AFTER.sub("", value[:200]).strip(BLANKS)
