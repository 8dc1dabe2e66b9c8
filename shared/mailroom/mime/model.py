"""The plain data of this part: what a mail says (`Mail`) and what a mail shall say (`Draft`).

Invariant: every text in a `Mail` is clean: no NUL, no lone surrogate, and no control character
in a value that came from a header. It may be stored in PostgreSQL and printed as JSON as it is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Auto = Literal["none", "replied", "generated", "bulk", "list", "report"]
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded", "feedback"]


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox of RFC 5322 section 3.4: `name` may be empty, `address` is the bare addr-spec."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not the text. `part` is its number ("2", "1.3"), as `part()` takes it.

    `size` counts decoded bytes; `content_id` is without angle brackets.
    """

    part: str
    filename: str | None
    type: str
    size: int
    disposition: str | None
    content_id: str | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """What a report says of one recipient.

    `status` is an enhanced code of RFC 3463 or empty. `hard`: the address itself is finally bad
    (unknown user or host, moved, refuses all mail); false where one mail was refused.
    """

    address: str
    action: Action
    status: str
    hard: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery or feedback report: its recipients, and what is known of the mail it concerns."""

    recipients: tuple[Recipient, ...]
    message_id: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Mail:
    """What one mail says. Message-IDs are without angle brackets.

    `date` is aware or None. `return_path` is None where absent and "" for the null path `<>`.
    `html` is as it came, not fit to be shown before it is cleaned. `text` is made from the HTML
    where no text part is there. `tags` are all `[…#…]` brackets of subject and text.
    `verdicts` are the spam and authentication headers as they came; `spam` is their conclusion.
    `encrypted`: the text could not be read for that reason. `calendar` is the method of an
    invitation (RFC 5546: REQUEST, REPLY, CANCEL …). `headers` are decoded and bounded.
    `defects` name what was repaired or left out.
    """

    message_id: str | None
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    from_: tuple[Address, ...]
    sender: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    delivered_to: tuple[str, ...]
    return_path: str | None
    subject: str
    date: datetime | None
    text: str
    html: str
    attachments: tuple[Attachment, ...]
    auto: Auto
    report: Report | None
    tags: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    verdicts: tuple[tuple[str, str], ...]
    spam: bool
    encrypted: bool
    calendar: str | None
    defects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file to send. With a `content_id` it is an inline image that the HTML names by `cid:`."""

    filename: str
    type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail to compose. Message-IDs are without angle brackets; `date` must be aware.

    Blind recipients are no part of it: they belong to the envelope. `headers` are extra fields
    such as X-Mailroom-Mail. `tag` (`[#1042-k7f3q]`) is stamped into the subject once.
    """

    from_: Address
    to: tuple[Address, ...]
    subject: str
    text: str
    message_id: str
    date: datetime
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    html: str | None = None
    attachments: tuple[File, ...] = ()
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    auto_submitted: Literal["auto-replied", "auto-generated"] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    tag: str | None = None
