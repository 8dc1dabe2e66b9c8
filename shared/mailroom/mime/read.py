"""Any bytes to a `Mail`.

Invariant: reading never raises and always ends, in time and memory bounded by the limits that
stand in fields, words, structure and bodies. What was repaired or left out is told in `defects`.
"""

import re
from typing import Final

from mailroom.mime.addresses import parse_addresses
from mailroom.mime.automatic import automatic
from mailroom.mime.bodies import bodies, packed
from mailroom.mime.dates import parse_date
from mailroom.mime.fields import Fields
from mailroom.mime.model import Mail
from mailroom.mime.reports import find_report
from mailroom.mime.structure import Part, tree
from mailroom.mime.words import decoded, is_plain

MOST_HEADERS: Final = 300  # fields kept in `Mail.headers`
LONGEST_HEADER_KEPT: Final = 8_000  # characters
MOST_DEFECTS: Final = 100
MOST_IDS: Final = 500
MOST_TAGS: Final = 50
TEXT_FOR_TAGS: Final = 500_000  # characters
LONGEST_SUBJECT: Final = 8_000

_ID = re.compile(r"<\s*([^<>]{1,998}?)\s*>")
_TAG = re.compile(r"\[[^\[\]\n]{0,60}#[^\[\]\n]{1,60}\]")
_DELIVERED = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to")
_VERDICTS: Final = (
    "authentication-results",
    "arc-authentication-results",
    "received-spf",
    "x-spam-flag",
    "x-spam-status",
    "x-spam",
    "x-spam-score",
    "x-rspamd-action",
    "x-ms-exchange-organization-scl",
    "x-forefront-antispam-report",
)
# Each of: SpamAssassin, SpamAssassin, rspamd and Dovecot, rspamd, Exchange (5 and more), Exchange.
_SPAM: Final = (
    ("x-spam-flag", re.compile(r"yes|true", re.IGNORECASE)),
    ("x-spam-status", re.compile(r"yes", re.IGNORECASE)),
    ("x-spam", re.compile(r"yes|true", re.IGNORECASE)),
    ("x-rspamd-action", re.compile(r"reject|add header|rewrite subject", re.IGNORECASE)),
    ("x-ms-exchange-organization-scl", re.compile(r"[5-9]\b")),
    ("x-forefront-antispam-report", re.compile(r".*\bSFV:SP[MB]\b")),
)


def read(raw: bytes) -> Mail:
    """What a mail says. Never raises: whatever is wrong with it stands in `defects`."""
    defects: list[str] = []
    try:
        return _read(_with_line_feeds(raw), defects)
    except Exception as fault:  # noqa: BLE001 (the last resort; the tests prove it unused)
        return _unread(f"reading failed: {type(fault).__name__}", defects)


def part(raw: bytes, number: str) -> bytes:
    """The decoded bytes of an attachment, by its number in `Mail.attachments`.

    Raises KeyError with the number where the mail has no such part.
    """
    where, _, index = number.partition("-")
    found = _numbered(tree(_with_line_feeds(raw), []), where)
    content = None
    if found is not None:
        content = packed(found, int(index)) if index.isdecimal() else found.content()
    if content is None:
        raise KeyError(number)
    return content


def _numbered(part: Part, number: str) -> Part | None:
    if not part.children:
        return part if part.number == number else None
    for child in part.children:
        found = _numbered(child, number)
        if found is not None:
            return found
    return None


def _with_line_feeds(raw: bytes) -> bytes:
    """Old Macintosh files end lines with CR alone."""
    return raw.replace(b"\r", b"\n") if b"\r" in raw[:1000] and b"\n" not in raw else raw


def _read(raw: bytes, defects: list[str]) -> Mail:
    root = tree(raw, defects)
    fields = root.fields
    seen = bodies(root, defects)
    hint = seen.charset
    if not fields.pairs:
        defects.append("no header")
    subject = decoded((fields.first("subject") or "")[:LONGEST_SUBJECT], hint)
    text = seen.text
    date_value = fields.first("date")
    date = parse_date(decoded(date_value[:200])) if date_value else None
    if date_value and date is None:
        defects.append("date not readable")
    return_path = _return_path(fields)
    report = find_report(root, subject, text)
    return Mail(
        message_id=next(iter(_ids(fields, "message-id")), None),
        in_reply_to=_ids(fields, "in-reply-to"),
        references=_ids(fields, "references"),
        from_=parse_addresses(fields.all("from")[:1], hint),
        sender=parse_addresses(fields.all("sender")[:1], hint),
        reply_to=parse_addresses(fields.all("reply-to")[:1], hint),
        to=parse_addresses(fields.all("to"), hint),
        cc=parse_addresses(fields.all("cc"), hint),
        delivered_to=_delivered(fields),
        return_path=return_path,
        subject=subject,
        date=date,
        text=text,
        html="\n".join(seen.html),
        attachments=tuple(seen.attachments),
        auto="report" if report is not None else automatic(fields, subject, return_path),
        report=report,
        tags=_tags(subject, text),
        headers=_headers(fields, hint, defects),
        verdicts=_verdicts(fields),
        spam=_is_spam(fields),
        encrypted=seen.encrypted,
        calendar=seen.calendar,
        defects=tuple(defects[:MOST_DEFECTS]),
    )


def _unread(defect: str, defects: list[str]) -> Mail:
    return Mail(
        message_id=None,
        in_reply_to=(),
        references=(),
        from_=(),
        sender=(),
        reply_to=(),
        to=(),
        cc=(),
        delivered_to=(),
        return_path=None,
        subject="",
        date=None,
        text="",
        html="",
        attachments=(),
        auto="none",
        report=None,
        tags=(),
        headers=(),
        verdicts=(),
        spam=False,
        encrypted=False,
        calendar=None,
        defects=(*defects, defect),
    )


def _ids(fields: Fields, name: str) -> tuple[str, ...]:
    """The Message-IDs of a field (RFC 5322 section 3.6.4), once each, in order, the last ones.

    Without brackets a value counts if it is one word; a fold inside an id is mended.
    """
    if name not in fields.named:
        return ()
    found: dict[str, None] = {}
    for value in fields.named[name][:10]:
        bracketed = _ID.findall(value)
        if not bracketed:
            words = value.split()
            bracketed = words if len(words) == 1 or all("@" in w for w in words) else []
        for given in bracketed:
            joined = given if given.isprintable() and " " not in given else "".join(given.split())
            found[decoded(joined.strip("<>"))[:998]] = None
    found.pop("", None)
    return tuple(found)[-MOST_IDS:]


def _return_path(fields: Fields) -> str | None:
    value = fields.first("return-path")
    if value is None:
        return None
    found = parse_addresses([value])
    return found[0].address if found else ""


def _delivered(fields: Fields) -> tuple[str, ...]:
    values = [value for name in _DELIVERED for value in fields.all(name)[:20]]
    return tuple(dict.fromkeys(box.address for box in parse_addresses(values) if box.address))


def _tags(subject: str, text: str) -> tuple[str, ...]:
    found = _TAG.findall(subject) if "#" in subject else []
    if "#" in text:
        found += _TAG.findall(text[:TEXT_FOR_TAGS])
    return tuple(dict.fromkeys(found))[:MOST_TAGS]


def _verdicts(fields: Fields) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, decoded(value)[:LONGEST_HEADER_KEPT])
        for name in _VERDICTS
        if name in fields.named
        for value in fields.named[name][:10]
    )


def _is_spam(fields: Fields) -> bool:
    return any(
        fits.match(value)
        for name, fits in _SPAM
        if name in fields.named
        for value in fields.named[name]
    )


def _headers(fields: Fields, hint: str | None, defects: list[str]) -> tuple[tuple[str, str], ...]:
    if len(fields.pairs) > MOST_HEADERS:
        defects.append(f"headers kept: {MOST_HEADERS}")
    return tuple(
        [
            pair if is_plain(pair[1]) else (pair[0], decoded(pair[1][:LONGEST_HEADER_KEPT], hint))
            for pair in fields.pairs[:MOST_HEADERS]
        ]
    )
