"""What a request must be beyond its contract, and what is said of each field that is not.

Invariant: what passes can be written into headers and an envelope as it stands. No value that
enters a header holds a control character, so that nobody smuggles in a header of his own.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from mailroom.contracts import INLINE_LIMIT, FieldError, MailSend, SendAttachment
from mailroom_sender.addresses import AddressWrong, sendable

LONGEST_WAIT = timedelta(days=366)
"""How far ahead `send_at` may lie: well within the 400 days that a key is remembered."""

_MESSAGE_ID = re.compile(r"[\x21-\x3b\x3d\x3f-\x7e]{1,900}")
_CONTENT_ID = re.compile(r"[\x21-\x3b\x3d\x3f-\x7e]{1,200}")
_TYPE = re.compile(r"[a-z0-9][\w.+-]{0,80}/[a-z0-9][\w.+-]{0,80}", re.ASCII | re.IGNORECASE)

AccountStanding = Literal["ready", "unknown", "disabled", "without_smtp", "forbidden"]

_ACCOUNT_REMEDIES: Mapping[AccountStanding, str] = {
    "unknown": "no account has this name or id; `mailroom account list` shows them",
    "disabled": "it is disabled; enable it with `mailroom account change`",
    "without_smtp": "it has no SMTP server; give one with `mailroom account change`",
    "forbidden": "this publisher may not send with it; allow it with `mailroom publisher change`",
}


@dataclass(frozen=True)
class Known:
    """What the request meets: its account, the objects that it names, an earlier use of its key."""

    account: AccountStanding
    object_sizes: Mapping[str, int]
    """Bytes of those objects that exist, by SHA-256."""
    earlier_hash: str | None = None
    """`content_hash` of the request that used the same publisher and key before."""
    publisher: str = ""
    uploads: Container[str] | None = None
    """What was uploaded for the publisher, by SHA-256; None for a service of ours, which may attach
    all: the store has every publisher's mail, and the hashes of those are told in events."""


def faults(
    request: MailSend, content_hash: str, known: Known, now: datetime, size_limit: int
) -> tuple[FieldError, ...]:
    """Each field that is wrong, with its remedy; empty for a request that can be sent.

    `size_limit` is in bytes, of all attachments together.
    """
    return (
        *_key(request, content_hash, known),
        *_account(request, known),
        *faults_of_itself(request, now),
        *_attachments(request, known, size_limit),
    )


def faults_of_itself(request: MailSend, now: datetime) -> tuple[FieldError, ...]:
    """What is wrong whatever accounts, files and earlier requests there are."""
    return (
        *_recipients(request),
        *_control_characters(request),
        *_body(request),
        *_times(request, now),
    )


def has_control(value: str) -> bool:
    """Whether a control character or half a surrogate pair stands in the value."""
    return any(unicodedata.category(char) in {"Cc", "Cs"} for char in value)


def shown(value: object) -> str:
    """A value as an error may repeat it: printable and short."""
    text = value if isinstance(value, str) else str(value)
    printable = repr(text[:120])[1:-1]
    return printable if len(printable) <= 120 else f"{printable[:119]}…"


def quotable(message_id: str) -> bool:
    """Whether this Message-ID can stand in References (RFC 5322 section 3.6.4).

    Mail comes with Message-IDs that cannot, and is to be answered all the same.
    """
    return _MESSAGE_ID.fullmatch(message_id) is not None


def _wrong(field: str, value: object, remedy: str) -> FieldError:
    return FieldError(field=field, value=shown(value), remedy=remedy)


def _key(request: MailSend, content_hash: str, known: Known) -> Iterator[FieldError]:
    if known.earlier_hash is not None and known.earlier_hash != content_hash:
        yield _wrong(
            "idempotency_key",
            request.idempotency_key,
            "this key was used for a request with other content; give each mail its own key",
        )


def _account(request: MailSend, known: Known) -> Iterator[FieldError]:
    if known.account != "ready":
        yield _wrong("account", request.account, _ACCOUNT_REMEDIES[known.account])


def _recipients(request: MailSend) -> Iterator[FieldError]:
    if not (request.to or request.cc or request.bcc):
        yield _wrong("to", "", "give at least one recipient in 'to', 'cc' or 'bcc'")
    for field in ("to", "cc", "bcc", "reply_to"):
        for number, address in enumerate(getattr(request, field)):
            try:
                sendable(address.address)
            except AddressWrong as wrong:
                yield _wrong(f"{field}.{number}.address", address.address, str(wrong))
            yield from _no_control(f"{field}.{number}.name", address.name)


def _control_characters(request: MailSend) -> Iterator[FieldError]:
    yield from _no_control("idempotency_key", request.idempotency_key)
    yield from _no_control("subject", request.subject)
    if request.answers is not None:
        yield from _no_control("answers.message_id", request.answers.message_id or "")
        for number, message_id in enumerate(request.answers.references):
            yield from _no_control(f"answers.references.{number}", message_id)
    if request.record is not None:
        yield from _no_control("record.id", request.record.id)


def _no_control(field: str, value: str) -> Iterator[FieldError]:
    if has_control(value):
        yield _wrong(field, value, "leave out control characters and line breaks")


def _body(request: MailSend) -> Iterator[FieldError]:
    if not request.text and not request.html:
        yield _wrong("text", "", "give 'text', 'html' or both")
    for field, value in (("text", request.text), ("html", request.html)):
        if value and "\0" in value:
            yield _wrong(field, value[max(0, value.index("\0") - 20) :], "leave out U+0000")


def _attachments(request: MailSend, known: Known, size_limit: int) -> Iterator[FieldError]:
    inline = total = 0
    content_ids: set[str] = set()
    for number, attachment in enumerate(request.attachments):
        field = f"attachments.{number}"
        yield from _attachment_headers(field, attachment)
        if attachment.content_id in content_ids:
            yield _wrong(f"{field}.content_id", attachment.content_id, "give each file its own")
        if attachment.content_id is not None:
            content_ids.add(attachment.content_id)
        size = _size(attachment, known)
        if size is None:
            yield _missing_bytes(field, attachment, known)
            continue
        total += size
        inline += size if attachment.inline is not None else 0
    if inline > INLINE_LIMIT:
        remedy = f"inline files have {INLINE_LIMIT} bytes together; put large ones into the store"
        yield _wrong("attachments", f"{inline} bytes inline", remedy)
    if total > size_limit:
        remedy = f"attachments have {size_limit} bytes together (MAILROOM_SENDER_SIZE_LIMIT_MB)"
        yield _wrong("attachments", f"{total} bytes", remedy)


def _attachment_headers(field: str, attachment: SendAttachment) -> Iterator[FieldError]:
    yield from _no_control(f"{field}.filename", attachment.filename)
    if not _TYPE.fullmatch(attachment.type) or attachment.type.lower().startswith("multipart/"):
        remedy = "give the media type of one file, such as application/pdf"
        yield _wrong(f"{field}.type", attachment.type, remedy)
    if attachment.content_id is not None and not _CONTENT_ID.fullmatch(attachment.content_id):
        remedy = "give printable ASCII without spaces and angle brackets"
        yield _wrong(f"{field}.content_id", attachment.content_id, remedy)


def _size(attachment: SendAttachment, known: Known) -> int | None:
    """Bytes of an attachment; None where there are none."""
    if attachment.inline is None:
        return None if _is_foreign(attachment, known) else _stored_size(attachment, known)
    try:
        return len(base64.b64decode(attachment.inline, validate=True))
    except (binascii.Error, ValueError):
        return None


def _stored_size(attachment: SendAttachment, known: Known) -> int | None:
    return known.object_sizes.get(attachment.object or "")


def _is_foreign(attachment: SendAttachment, known: Known) -> bool:
    return known.uploads is not None and attachment.object not in known.uploads


def _missing_bytes(field: str, attachment: SendAttachment, known: Known) -> FieldError:
    if attachment.inline is not None:
        remedy = "give base64 with padding and without line breaks (RFC 4648 section 4)"
        return _wrong(f"{field}.inline", attachment.inline, remedy)
    remedy = "the object store has no bytes with this SHA-256; put them there first"
    if _is_foreign(attachment, known):
        upload = f"`mailroom attachment add --publisher {shown(known.publisher)} FILE`"
        remedy = f"is not an upload of {shown(known.publisher)}: {upload} makes it one"
    return _wrong(f"{field}.object", attachment.object, remedy)


def _times(request: MailSend, now: datetime) -> Iterator[FieldError]:
    if request.send_at is not None and request.send_at > now + LONGEST_WAIT:
        remedy = f"lies more than {LONGEST_WAIT.days} days ahead; ask for it later"
        yield _wrong("send_at", request.send_at.isoformat(), remedy)
    if (
        request.expires_at is not None
        and request.send_at is not None
        and request.expires_at <= request.send_at
    ):
        remedy = "is not after send_at, so it could never be sent"
        yield _wrong("expires_at", request.expires_at.isoformat(), remedy)
