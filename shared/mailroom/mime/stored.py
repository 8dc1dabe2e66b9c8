"""A `Mail` as JSON and back: the bytes that lie in the object store.

Invariant: `from_json(to_json(mail)) == mail`; unknown members are ignored, so that fields may be
added.
"""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import pydantic_core

from mailroom.mime.model import Address, Attachment, Mail, Recipient, Report

_ADDRESSES = ("from_", "sender", "reply_to", "to", "cc")
_STRINGS = ("in_reply_to", "references", "delivered_to", "tags", "defects")
_PAIRS = ("headers", "verdicts")
_NAMES = tuple(field.name for field in fields(Mail))


def to_json(mail: Mail) -> bytes:
    """One JSON object in UTF-8: `date` in ISO 8601 with offset, `from_` as "from"."""
    # Not `asdict`, which copies each string and takes longer than reading the mail.
    told = {name: getattr(mail, name) for name in _NAMES}
    for name in _ADDRESSES:
        told[name] = [{"name": box.name, "address": box.address} for box in told[name]]
    told["from"] = told.pop("from_")
    told["date"] = mail.date.isoformat() if mail.date else None
    told["attachments"] = [asdict(one) for one in mail.attachments]
    told["report"] = asdict(mail.report) if mail.report else None
    # Not the standard library's, which for a long text takes half as long as reading the mail.
    return pydantic_core.to_json(told)


def from_json(stored: bytes) -> Mail:
    """The `Mail` of `to_json`. Raises ValueError, KeyError or TypeError where it is none."""
    given = pydantic_core.from_json(stored)
    given["from_"] = given["from"]
    given["date"] = datetime.fromisoformat(given["date"]) if given["date"] else None
    for name in _ADDRESSES:
        given[name] = tuple(Address(**one) for one in given[name])
    for name in _STRINGS:
        given[name] = tuple(given[name])
    for name in _PAIRS:
        given[name] = tuple((key, value) for key, value in given[name])
    given["attachments"] = tuple(Attachment(**one) for one in given["attachments"])
    given["report"] = _report(given["report"])
    return Mail(**{name: given[name] for name in _NAMES})


def _report(told: dict[str, Any] | None) -> Report | None:
    if told is None:
        return None
    recipients = tuple(Recipient(**one) for one in told["recipients"])
    return Report(recipients, told["message_id"], told["subject"])
