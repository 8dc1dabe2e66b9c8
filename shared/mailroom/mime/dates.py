"""Dates as mails write them (RFC 5322 section 3.3, and in the wild) to aware datetimes.

Invariant: a date that is not plainly readable is None, never a guess of day against month.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Final

# Zones that senders write by name and `email.utils` does not know. Hours east of UTC; names
# that mean two zones (IST, CST outside of America) are left to UTC.
_ZONES: Final = {
    "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "MET": 1, "MEZ": 1, "CEST": 2, "MEST": 2, "MESZ": 2,
    "EET": 2, "EEST": 3, "MSK": 3, "MSD": 4, "HKT": 8, "SGT": 8, "AWST": 8, "JST": 9, "KST": 9,
    "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "AKST": -9, "AKDT": -8, "HST": -10,
}  # fmt: skip
# Months of senders that forgot to write English, as far as their first letters differ from it.
_MONTHS: Final = {
    "mär": "Mar", "mrz": "Mar", "mai": "May", "okt": "Oct", "dez": "Dec",  # German
    "janv": "Jan", "févr": "Feb", "fév": "Feb", "avr": "Apr", "juin": "Jun", "juil": "Jul",
    "août": "Aug", "déc": "Dec",  # French
    "ene": "Jan", "abr": "Apr", "ago": "Aug", "dic": "Dec", "fev": "Feb", "set": "Sep",
    "out": "Oct", "gen": "Jan", "mag": "May", "giu": "Jun", "lug": "Jul", "ott": "Oct",
    "mrt": "Mar", "mei": "May", "maj": "May",
}  # fmt: skip
_FOREIGN_MONTH = re.compile(rf"\b({'|'.join(_MONTHS)})\w*\.?", re.IGNORECASE)
_ZONE_NAME = re.compile(rf"\b({'|'.join(_ZONES)})\b")
_COMMENT = re.compile(r"\(([^()]{0,100})\)")
_MERIDIEM = re.compile(r"\b(\d{1,2})(:\d{2}(?::\d{2})?)\s*([AP])\.?M\b\.?", re.IGNORECASE)
_GMT_OFFSET = re.compile(r"\b(?:GMT|UTC|UT)\s*([+-])(\d{1,2}):?(\d{2})?\b")
_COLON_OFFSET = re.compile(r"([+-]\d{2}):(\d{2})\b")
_NUMERIC = re.compile(r"[+-]\d{4}\b")
_SPACED_COLON = re.compile(r"\s*:\s*")
_FRACTION = re.compile(r"(:\d{2})[.,]\d+")
_ISO = re.compile(
    r"^\s*(\d{4}-\d{2}-\d{2})[T ]+(\d{2}:\d{2}(?::\d{2})?)(?:\.\d+)?\s*"
    r"(Z|UTC|GMT|[+-]\d{2}:?\d{2})?\b"
)
_LONGEST = 200


@lru_cache(maxsize=256)
def parse_date(value: str) -> datetime | None:
    """The moment that a Date field tells, or None. Without a zone it is taken for UTC."""
    text = value[:_LONGEST].strip(' "\t')
    iso = _ISO.match(text)
    if iso is not None:
        return _from_iso(iso)
    comments = " ".join(_COMMENT.findall(text))
    text = _SPACED_COLON.sub(":", _COMMENT.sub(" ", text))
    text = _FRACTION.sub(r"\1", _MERIDIEM.sub(_of_24_hours, text))
    text = _GMT_OFFSET.sub(lambda m: f"{m[1]}{m[2]:0>2}{m[3] or '00'}", text)
    text = _COLON_OFFSET.sub(r"\1\2", text)
    return _from_parts(text, comments) or _from_parts(_FOREIGN_MONTH.sub(_english, text), comments)


def _of_24_hours(match: re.Match[str]) -> str:
    hour = int(match[1]) % 12 + (12 if match[3] in "pP" else 0)
    return f"{hour:02}{match[2]}"


def _english(match: re.Match[str]) -> str:
    return _MONTHS[match[1].lower()]


def _from_iso(match: re.Match[str]) -> datetime | None:
    day, time, zone = match.groups()
    offset = "+00:00" if zone in {None, "Z", "UTC", "GMT"} else zone
    try:
        return datetime.fromisoformat(f"{day}T{time}{offset}")
    except ValueError:
        return None


def _from_parts(text: str, comments: str) -> datetime | None:
    try:
        parts = parsedate_tz(text)
    except (ValueError, IndexError, TypeError):  # of a wild form, in Python before 3.12
        return None
    if parts is None:
        return None
    year, month, day, hour, minute, second, *_, offset = parts
    if not offset and not _NUMERIC.search(text):
        named = _ZONE_NAME.search(f"{text} {comments}")
        offset = 3600 * _ZONES[named[1]] if named else 0
    if 100 <= year < 200:
        year += 1900  # RFC 5322 section 4.3: of programs that count from 1900
    if offset is None or not -86_400 < offset < 86_400:
        offset = 0
    try:
        zone = timezone(timedelta(seconds=offset)) if offset else UTC
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
    except (ValueError, OverflowError):
        return None
