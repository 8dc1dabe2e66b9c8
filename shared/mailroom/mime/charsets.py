"""Bytes to clean text: the one place where charsets are chosen and dangerous characters leave.

Invariant: what `decode`, `clean` and `one_line` return holds no NUL and no lone surrogate
(PostgreSQL and UTF-8 refuse both); what `one_line` returns holds no control character at all.
A charset name from a mail reaches Python's codec machinery only by way of a table, since some
codecs of Python are no charsets (punycode is quadratic) and unknown names fill its cache.
"""

import encodings
import encodings.aliases
import pkgutil
import re
from functools import lru_cache
from typing import Final

from turbohtml.detect import detect

SAMPLE: Final = 16_384  # bytes looked at to guess an undeclared charset

_NO_CHARSET = frozenset(
    {"aliases", "base64_codec", "bz2_codec", "hex_codec", "idna", "mbcs", "oem", "palmos",
     "punycode", "quopri_codec", "raw_unicode_escape", "rot_13", "tactis", "undefined",
     "unicode_escape", "uu_codec", "zlib_codec"}
)  # fmt: skip
_NOT_NAME = re.compile(r"[^a-z0-9]+")
_CODECS: Final = {
    _NOT_NAME.sub("_", name): codec
    for name, codec in (
        *((module.name, module.name) for module in pkgutil.iter_modules(encodings.__path__)),
        *encodings.aliases.aliases.items(),
    )
    if codec not in _NO_CHARSET
}

# What mail programs write and Python does not know, or knows as a smaller set than they mean
# (the WHATWG Encoding Standard treats latin1, gb2312, ks_c_5601, shift_jis as their supersets).
_MEANT: Final = {
    "ansi": "cp1252",
    "big5": "big5hkscs",
    "cp_850": "cp850",
    "dos_866": "cp866",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hebrew": "iso8859_8",
    "iso8859_8": "cp1255",
    "iso_8859_8_e": "cp1255",
    "iso_8859_8_i": "cp1255",
    "ks_c_5601": "cp949",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601_1989": "cp949",
    "macintosh": "mac_roman",
    "shift_jis": "cp932",
    "unicode": "utf_16",
    "unicode_1_1_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
    "windows_31j": "cp932",
    "windows_874": "cp874",
    "windows_949": "cp949",
    "windows_936": "gb18030",
}
_LATIN: Final = frozenset({"ascii", "latin_1", "cp1252"})
_UNKNOWN = re.compile(r"^(x_unknown|unknown|unknown_8bit|8bit|x_user_defined|default|none|auto)?$")
_ASCII = re.compile(r"^(?:us-?ascii|ascii|ansi_x3)", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:charset|x|cs|cp(?=windows|iso))_+")
_TRAILING = re.compile(r"^(windows_\d{4}|iso_8859_\d{1,2}|utf_?8|us_ascii|gb2312|koi8_[ru])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")


@lru_cache(maxsize=512)
def codec_of(charset: str) -> str | None:
    """The Python codec for a charset's name as mails spell it, or None for an unknown one."""
    name = _NOT_NAME.sub("_", charset[:80].lower()).strip("_")
    for candidate in (name, _PREFIX.sub("", name)):
        shortened = _TRAILING.match(candidate)
        for spelled in (candidate, shortened[1] if shortened else ""):
            codec = _CODECS.get(_MEANT.get(spelled, spelled))
            if codec:
                return _meant(codec)
    return None


def _meant(codec: str) -> str:
    if codec in _LATIN:
        return "cp1252"
    return _MEANT.get(codec, codec)


def decode(data: bytes, charset: str | None, hint: str | None = None) -> tuple[str, str | None]:
    """Clean text of `data`, and a defect when the declared charset did not hold.

    A declared charset is believed when it decodes, except a Latin one over valid UTF-8. Without
    one: UTF-8, then `hint` (what the rest of the mail is in), then a guess by frequencies.
    """
    if data.isascii() and b"\x1b" not in data and (charset is None or _plain(charset)):
        return clean(data.decode("ascii")), None
    if charset is None:
        return clean(_guess(data, hint)), "no charset for 8 bit text"
    codec, doubt = _declared(charset)
    if codec is None or (codec == "ascii" and not data.isascii()):
        return clean(_guess(data, hint)), doubt
    text, defect = _believed(data, codec, hint)
    return clean(text), f"{defect} {printable(charset)}" if defect else None


@lru_cache(maxsize=512)
def _declared(charset: str) -> tuple[str | None, str]:
    """The codec of a declared charset, and the defect if it cannot be believed at all."""
    if _UNKNOWN.match(_NOT_NAME.sub("_", charset[:80].lower()).strip("_")):
        return None, f"charset {printable(charset)}"
    if _ASCII.match(charset):
        return "ascii", f"not valid {printable(charset)}"
    codec = codec_of(charset)
    return codec, "" if codec else f"unknown charset {printable(charset)}"


def _believed(data: bytes, codec: str, hint: str | None) -> tuple[str, str | None]:
    """The text, and what was wrong with its declaration."""
    if codec in {"cp1252", "iso8859_15"} and not data.isascii() and b"\x00" not in data:
        text = _strict(data, "utf_8")
        if text is not None and _HIGH_SEQUENCE.search(data):
            return text, "is UTF-8, not"
    text = _strict(data, codec)
    if text is not None:
        return text, None
    return _repaired(data, codec, hint), "not valid"


def _plain(charset: str) -> bool:
    """Whether ASCII bytes mean ASCII in it (not so in UTF-16, UTF-7, ISO-2022, HZ)."""
    codec = codec_of(charset)
    return codec is None or not codec.startswith(("utf_16", "utf_32", "utf_7", "iso2022", "hz"))


def _strict(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeError:
        # Python leaves five bytes of Windows-1252 open; the WHATWG, and so its users, do not.
        return data.decode("whatwg-windows-1252") if codec == "cp1252" else None


def _guess(data: bytes, hint: str | None) -> str:
    if b"\x1b$" in data:  # ISO-2022 is 7 bit, and so would pass for ASCII
        return _detected(data)
    text = _strict(data, "utf_8")
    if text is not None:
        return text
    hinted = codec_of(hint) if hint else None
    if hinted and hinted not in {"cp1252", "utf_8"}:
        text = data.decode(hinted, "replace")
        if text.count("�") * 10 <= len(text):
            return text
    if _mostly_utf8(data):
        return data.decode("utf_8", "replace")
    return _detected(data)


def _detected(data: bytes) -> str:
    return data.decode(detect(_sample(data)).codec or "cp1252", "replace")


def _sample(data: bytes) -> bytes:
    """Where the 8 bit begins, and the start, since HTML names its charset there."""
    first = _HIGH.search(data)
    if first is None or first.start() < SAMPLE // 2:
        return data[:SAMPLE]
    return data[: SAMPLE // 2] + data[first.start() - 100 : first.start() + SAMPLE // 2]


def _repaired(data: bytes, codec: str, hint: str | None) -> str:
    """`data` is not valid in its declared `codec`: a broken character, or another charset."""
    guessed = _guess(data, hint)
    if codec == "utf_8":
        return guessed
    text = data.decode(codec, "replace")
    few = text.count("�") * 20 <= len(text)
    return text if few or text.count("�") <= guessed.count("�") else guessed


def _mostly_utf8(data: bytes) -> bool:
    """UTF-8 with some broken characters, rather than another charset."""
    sample = _sample(data)
    broken = sample.decode("utf_8", "replace").count("�")
    return len(_HIGH_SEQUENCE.findall(sample)) >= broken


def clean(text: str) -> str:
    """Without NUL; a lone surrogate becomes the replacement character."""
    whole = text.replace("\x00", "") if "\x00" in text else text
    whole = whole.removeprefix("\ufeff")  # a byte order mark
    if not whole.isascii():
        try:
            whole.encode()
        except UnicodeEncodeError:
            return _SURROGATE.sub("�", whole)
    return whole


def one_line(text: str) -> str:
    """Clean and on one line: a run of control characters becomes a space, none at the ends."""
    if text.isprintable():
        return text.strip()
    return clean(_CONTROL.sub(" ", text)).strip()


def printable(value: str) -> str:
    """A value from a mail, short and on one line, fit to stand in a defect."""
    return one_line(value[:60])
