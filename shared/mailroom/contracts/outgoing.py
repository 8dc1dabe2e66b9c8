"""Mail on its way out: `mail.send`, `mail.cancel`, and the facts that say what became of it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from mailroom.contracts.contract import (
    ANYONE,
    UUID,
    Address,
    AwareDatetime,
    Contract,
    ObjectRef,
    Part,
    RecordRef,
    Sha256,
)

INLINE_LIMIT = 256 * 1024
"""Bytes of text, of HTML, and of inline files together in one `mail.send`; more by upload."""

IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=INLINE_LIMIT)]

MAIL_HEADER = "X-Mailroom-Mail"
"""Header of each mail of ours, with its mail id: a copy is known by it, though a relay gave the
mail another Message-ID."""

Tag = Annotated[str, StringConstraints(pattern=r"^\[[\x21-\x5a\x5e-\x7e]{1,60}\]$")]
"""Printable ASCII in brackets, so that it stays outside encoded words (RFC 2047)."""


class SendAttachment(Part):
    """A file to attach: from the object store (`object`), or inline as base64 (`inline`)."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    type: Annotated[str, StringConstraints(pattern=r"^[\w.+-]+/[\w.+-]+$")]
    object: Sha256 | None = None
    inline: Annotated[str, StringConstraints(max_length=INLINE_LIMIT * 4 // 3 + 4)] | None = Field(
        default=None, description="base64 (RFC 4648 section 4)"
    )
    content_id: str | None = Field(default=None, description="for an image that the HTML shows")

    @model_validator(mode="after")
    def _one_source(self) -> "SendAttachment":
        if (self.object is None) == (self.inline is None):
            raise ValueError("give exactly one of 'object' and 'inline'")
        return self


class Answers(Part):
    """The mail that this one answers: sets In-Reply-To and References (RFC 5322, 3.6.4)."""

    mail: UUID | None = None
    message_id: str | None = None
    references: tuple[str, ...] = ()


class MailSend(Contract):
    """Send this, once: the same publisher and idempotency key never send twice in 400 days."""

    name: ClassVar[str] = "mail.send"
    is_command: ClassVar[bool] = True
    publishers: ClassVar[tuple[str, ...]] = (ANYONE,)

    idempotency_key: IdempotencyKey
    account: str = Field(description="name or id of the account that sends")
    on_behalf_of: UUID | None = Field(default=None, description="the user who wrote it")
    to: Annotated[tuple[Address, ...], Field(max_length=500)] = ()
    cc: Annotated[tuple[Address, ...], Field(max_length=500)] = ()
    bcc: Annotated[tuple[Address, ...], Field(max_length=500)] = ()
    reply_to: tuple[Address, ...] = ()
    subject: Annotated[str, StringConstraints(max_length=2000)] = ""
    text: Text | None = None
    html: Text | None = None
    attachments: Annotated[tuple[SendAttachment, ...], Field(max_length=100)] = ()
    answers: Answers | None = None
    record: RecordRef | None = None
    tag: Tag | None = None
    auto: Literal["none", "replied", "generated"] = "none"
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class MailCancel(Contract):
    """Do not send what has not left yet. Late is not an error: the outcome says what happened."""

    name: ClassVar[str] = "mail.cancel"
    is_command: ClassVar[bool] = True
    publishers: ClassVar[tuple[str, ...]] = (ANYONE,)

    idempotency_key: IdempotencyKey


class FieldError(Part):
    """One wrong field of a request."""

    field: str = Field(description="dotted path: to.0.address")
    value: str = Field(description="what came, shortened")
    remedy: str


class Recipient(Part):
    """What one recipient's server said."""

    address: str
    code: int | None = Field(default=None, description="SMTP reply code (RFC 5321)")
    reply: str = ""


class _Outcome(Contract):
    publishers: ClassVar[tuple[str, ...]] = ("sender",)

    publisher: str = Field(description="the broker user who asked for it")
    idempotency_key: str | None = Field(description="null where the request had none to read")


class _MailOutcome(_Outcome):
    mail: UUID
    account: UUID
    message_id: str
    record: RecordRef | None = None


class MailSent(_MailOutcome):
    """A server took it for at least one recipient. Published once a request.

    Those in `refused` with a code 4yz are still tried; who is given up comes in `mail.failed`.
    """

    name: ClassVar[str] = "mail.sent"

    aliases: tuple[str, ...] = Field(default=(), description="Message-IDs a relay gave it")
    accepted: tuple[Recipient, ...]
    refused: tuple[Recipient, ...] = ()
    subject: str
    answers: Answers | None = None
    tag: str | None = None
    auto: Literal["none", "replied", "generated"] = "none"
    smtp_reply: str
    maybe_twice: bool = Field(
        default=False, description="an earlier attempt ended unknown: it may have left before"
    )
    raw: ObjectRef
    sent_at: AwareDatetime


class MailFiled(_MailOutcome):
    """Its copy lies in the account's Sent folder."""

    name: ClassVar[str] = "mail.filed"

    folder: str
    uidvalidity: int | None = None
    uid: int | None = None


class MailFailed(_MailOutcome):
    """It did not leave, or nobody knows: `unknown` waits for a person.

    After `mail.sent` it is about the recipients in `refused` alone, who were still tried.
    """

    name: ClassVar[str] = "mail.failed"

    reason: Literal["refused", "expired", "unknown", "account_removed"]
    refused: tuple[Recipient, ...] = ()
    smtp_code: int | None = None
    smtp_reply: str = ""


class MailRejected(_Outcome):
    """The request was wrong and nothing was sent: each bad field, with its remedy."""

    name: ClassVar[str] = "mail.rejected"

    event_id: str | None = Field(description="AMQP message_id of the request")
    errors: tuple[FieldError, ...]


class MailCancelled(_MailOutcome):
    """It was cancelled before it left."""

    name: ClassVar[str] = "mail.cancelled"


class MailBounced(Contract):
    """A delivery report (RFC 3464) said that a recipient did not get our mail."""

    name: ClassVar[str] = "mail.bounced"
    publishers: ClassVar[tuple[str, ...]] = ("sender",)

    mail: UUID
    recipient: str
    action: str
    status: str = Field(description="RFC 3463: 5.1.1")
    hard: bool = Field(description="the address itself is finally bad")
    report: UUID = Field(description="the mail that told it")
