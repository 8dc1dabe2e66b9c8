"""A `Draft` to the bytes of a mail (RFC 5322, 2045, 2046, 2183, 2387).

Invariant: the same draft yields the same bytes, since sender composes again after a crash; no
blind recipient, no control character and no line above 998 bytes is in them; lines end in CRLF.
"""

import binascii
import hashlib
import re
from dataclasses import replace
from email.utils import format_datetime
from typing import Final

from mailroom.mime import writing
from mailroom.mime.model import Draft, File
from mailroom.mime.writing import HeaderRefused

_LONGEST_LINE: Final = 998
_LINE: Final = 76  # bytes of a base64 line

_TYPE = re.compile(
    r"^[a-z0-9][a-z0-9!#$&^_.+-]{0,80}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}$", re.IGNORECASE
)
_TAG = re.compile(r"^\[[\x21-\x5a\x5e-\x7e]{1,60}\]$")
_FIELD_NAME = re.compile(r"^[!-9;-~]{1,70}$")
_TAGGABLE = re.compile(
    r"^((?:re(?:\[\d+\])?|aw|antw|antwort|sv|vs|fw|fwd|wg|tr|rv)\s*:\s*)", re.IGNORECASE
)
_OWN: Final = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "sender", "subject", "date", "message-id",
     "in-reply-to", "references", "mime-version", "auto-submitted", "return-path", "received"}
)  # fmt: skip


def stamp(subject: str, tag: str | None) -> str:
    """The subject with the tag in it once: after "Re: " and its kin, else in front.

    Raises HeaderRefused where the tag is none.
    """
    if not tag or tag in subject:
        return subject
    if not _TAG.match(tag):
        raise HeaderRefused("tag", tag, "write it in ASCII without blanks, in square brackets")
    bare = subject.strip()
    prefix = _TAGGABLE.match(bare)
    if prefix is None:
        return f"{tag} {bare}".strip()
    return f"{prefix[1].rstrip()} {tag} {bare[prefix.end() :]}".strip()


def compose(draft: Draft) -> bytes:
    """The mail's bytes. Raises HeaderRefused naming field, value and remedy."""
    header = "\r\n".join(_header(draft))
    return header.encode("ascii") + b"\r\n" + _body(draft)


def _header(draft: Draft) -> list[str]:
    if draft.date.tzinfo is None:
        raise HeaderRefused("Date", str(draft.date), "give a date with its time zone")
    lines = [
        f"Date: {format_datetime(draft.date)}",
        writing.addresses("From", [draft.from_]),
        writing.unstructured("Subject", stamp(draft.subject, draft.tag)),
        writing.message_id("Message-ID", draft.message_id),
        "MIME-Version: 1.0",
    ]
    for field, mailboxes in (("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)):
        if mailboxes:
            lines.append(writing.addresses(field, mailboxes))
    for field, ids in (("In-Reply-To", draft.in_reply_to), ("References", draft.references)):
        if ids:
            lines.append(writing.message_ids(field, ids))
    if draft.auto_submitted:
        lines.append(writing.structured("Auto-Submitted", draft.auto_submitted))
    return lines + [_extra(name, value) for name, value in draft.headers]


def _extra(name: str, value: str) -> str:
    lower = name.lower()
    if not _FIELD_NAME.match(name) or lower in _OWN or lower.startswith("content-"):
        raise HeaderRefused("headers", name, "give a field name that the mail does not have yet")
    return writing.unstructured(name, value)


def _body(draft: Draft) -> bytes:
    """The header fields of the content and the content, after RFC 2046 section 5.1."""
    seed = _seed(draft)
    inline = [file for file in draft.attachments if file.content_id and draft.html is not None]
    attached = [file for file in draft.attachments if file not in inline]
    content = _text("plain", draft.text)
    if draft.html is not None:
        html = _text("html", draft.html)
        if inline:
            html = _multipart("related", [html, *map(_inline, inline)], f"{seed}2", "text/html")
        content = _multipart("alternative", [content, html], f"{seed}1")
    if attached:
        content = _multipart("mixed", [content, *map(_attached, attached)], f"{seed}0")
    return content


def _seed(draft: Draft) -> str:
    """Of the whole content, so that none can contain the boundary made of it."""
    digest = hashlib.sha256(repr(replace(draft, attachments=())).encode("utf-8", "replace"))
    for file in draft.attachments:
        digest.update(hashlib.sha256(file.content).digest())
    return f"=_{digest.hexdigest()[:40]}"


def _multipart(kind: str, parts: list[bytes], boundary: str, root: str | None = None) -> bytes:
    listed = writing.parameter("Content-Type", "boundary", boundary)
    if root:
        listed += writing.parameter("Content-Type", "type", root)
    head = writing.structured("Content-Type", f"multipart/{kind}", listed).encode("ascii")
    mark = b"--" + boundary.encode("ascii")
    framed = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return head + b"\r\n\r\n" + framed + mark + b"--\r\n"


def _text(subtype: str, text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    data = "\r\n".join(lines).encode("utf-8", "replace")
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    encoding, encoded = _encoded_text(data)
    charset = "us-ascii" if data.isascii() else "utf-8"
    head = [
        writing.structured("Content-Type", f"text/{subtype}", [f'charset="{charset}"']),
        f"Content-Transfer-Encoding: {encoding}",
    ]
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + encoded


def _encoded_text(data: bytes) -> tuple[str, bytes]:
    """7bit where the text is fit for it, else the shorter of quoted-printable and base64."""
    plain = data.isascii() and b"\x00" not in data
    if plain and all(len(line) <= _LONGEST_LINE for line in data.split(b"\r\n")):
        return "7bit", data
    quoted = binascii.b2a_qp(data, istext=True)
    based = _base64(data)
    return ("quoted-printable", quoted) if len(quoted) <= len(based) else ("base64", based)


def _base64(data: bytes) -> bytes:
    step = _LINE // 4 * 3
    lines = [
        binascii.b2a_base64(data[at : at + step], newline=False) for at in range(0, len(data), step)
    ]
    return b"".join(line + b"\r\n" for line in lines)


def _inline(file: File) -> bytes:
    return _file(file, "inline")


def _attached(file: File) -> bytes:
    return _file(file, "attachment")


def _file(file: File, disposition: str) -> bytes:
    if not _TYPE.match(writing.checked("Content-Type", file.type)):
        raise HeaderRefused("Content-Type", file.type, "write it as type/subtype")
    # A message or a multipart may not be base64 (RFC 2046 section 5.2.1): it goes as mere bytes.
    composite = file.type.lower().startswith(("message/", "multipart/"))
    kind = "application/octet-stream" if composite else file.type
    named = writing.parameter("filename", "filename", file.filename) if file.filename else []
    head = [
        writing.structured("Content-Type", kind),
        "Content-Transfer-Encoding: base64",
        writing.structured("Content-Disposition", disposition, named),
    ]
    if file.content_id:
        head.append(writing.message_id("Content-ID", file.content_id))
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + _base64(file.content)
