"""From a request to the mail that leaves: ids, envelope, headers.

Invariant: the same publisher and key give the same mail id and Message-ID, wherever and however
often they are reckoned. Nothing here looks anywhere: it is given all that it needs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from mailroom import mime
from mailroom.contracts import MAIL_HEADER, Address, MailSend
from mailroom_sender.addresses import sendable
from mailroom_sender.outcomes import Target
from mailroom_sender.validation import quotable

REFERENCES = 20
"""Message-IDs in References, at most: the first and the newest (as RFC 5537, 3.4.4)."""

_NAMESPACE = UUID("5b3b8a02-5f0e-4f0e-9d5c-6f1b7b0f6c11")
_LINE_SEPARATORS = str.maketrans({"\u2028": " ", "\u2029": " "})


def mail_id(publisher: str, idempotency_key: str) -> UUID:
    """The id of the mail that this request becomes."""
    # JSON, because a key may hold whatever character one would take to part the two.
    return uuid5(_NAMESPACE, json.dumps([publisher, idempotency_key]))


def message_id(mail: UUID, address: str) -> str:
    """Its Message-ID (RFC 5322 section 3.6.4), without angle brackets."""
    return f"{mail}@{address.rpartition('@')[2].lower()}"


def content_hash(asked: MailSend) -> str:
    """What tells whether two requests ask for the same.

    Defaults are left out, so that a field added to the contract does not change it.
    """
    content = asked.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def envelope(asked: MailSend) -> tuple[Target, ...]:
    """The recipients, each once, in order of to, cc, bcc.

    Local parts may differ in case by the letter of RFC 5321 section 2.4; nobody's do.
    """
    once: dict[str, str] = {}
    for one in (*asked.to, *asked.cc, *asked.bcc):
        address = sendable(one.address)
        once.setdefault(address.lower(), address)
    return tuple(Target(address) for address in once.values())


def references(asked: MailSend, answered: str | None) -> tuple[str, ...]:
    """Message-IDs for References, oldest first; those that no header can hold are left out."""
    if asked.answers is None:
        return ()
    chain = [*asked.answers.references, *([answered] if answered else [])]
    ids = list(dict.fromkeys(one for one in reversed(chain) if quotable(one)))[::-1]
    return tuple(ids if len(ids) <= REFERENCES else [ids[0], *ids[1 - REFERENCES :]])


def draft(
    asked: MailSend,
    mail: UUID,
    sender: mime.Address,
    date: datetime,
    files: Sequence[mime.File],
    answered: str | None,
) -> mime.Draft:
    """The mail to compose. `answered` is the Message-ID of the mail that it answers."""
    in_reply_to = (answered,) if answered and quotable(answered) else ()
    return mime.Draft(
        from_=sender,
        to=_addresses(asked.to),
        cc=_addresses(asked.cc),
        reply_to=_addresses(asked.reply_to),
        subject=one_line(asked.subject),
        text=asked.text or mime.text_of(asked.html or ""),
        html=asked.html or None,
        message_id=message_id(mail, sender.address),
        date=date,
        attachments=tuple(files),
        in_reply_to=in_reply_to,
        references=references(asked, answered),
        auto_submitted=_AUTO[asked.auto],
        headers=((MAIL_HEADER, str(mail)),),
        tag=asked.tag,
    )


_AUTO: Mapping[str, Literal["auto-replied", "auto-generated"] | None] = {
    "none": None,
    "replied": "auto-replied",
    "generated": "auto-generated",
}
"""Auto-Submitted (RFC 3834 section 5)."""


def _addresses(addresses: Sequence[Address]) -> tuple[mime.Address, ...]:
    return tuple(mime.Address(one_line(one.name), sendable(one.address)) for one in addresses)


def one_line(value: str) -> str:
    """Unicode's line and paragraph separators, which some programs break lines at."""
    return value.translate(_LINE_SEPARATORS)
