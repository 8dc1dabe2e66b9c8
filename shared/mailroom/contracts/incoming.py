"""Mail on its way in: `mail.received` (an arrival), `mail.fetch` (its bytes are lost: bring them
again) and `mail.routed` (a mail in its mailbox)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mailroom.contracts.contract import (
    UUID,
    Address,
    AwareDatetime,
    Contract,
    ObjectRef,
    Part,
)

FolderRole = Literal["inbox", "sent", "junk", "archive", "other"]
"""What a folder is for its account (RFC 6154). `other` is a chosen folder without special use."""

MailboxKind = Literal["central", "private"]

Automatic = Literal["none", "replied", "generated", "bulk", "list", "report"]
"""RFC 3834's auto-replied and auto-generated, bulk and list mail, and delivery reports."""


class MailReceived(Contract):
    """One arrival: a UID in a folder of an account. The fetcher never looks inside the mail."""

    name: ClassVar[str] = "mail.received"
    publishers: ClassVar[tuple[str, ...]] = ("fetcher",)

    arrival: UUID
    account: UUID
    folder: str
    role: FolderRole
    uidvalidity: int
    uid: int
    internal_date: AwareDatetime
    flags: tuple[str, ...] = ()
    raw: ObjectRef
    backfill: bool = Field(description="older than the account's start: opens and sends nothing")
    received_at: AwareDatetime = Field(description="when the fetcher had its bytes")


class MailFetch(Contract):
    """Bring a mail's bytes again: the object store has them no more, or others in their place.

    The fetcher asks every account that brought them and still has them. Where one does, the bytes
    are stored again under the same hash, and its `mail.received` is published again.
    """

    name: ClassVar[str] = "mail.fetch"
    is_command: ClassVar[bool] = True
    publishers: ClassVar[tuple[str, ...]] = ("router",)

    raw: ObjectRef
    problem: str = Field(default="", description="what is wrong with them, in a person's words")


class RoutedAttachment(Part):
    """An attachment, by its part number; its bytes stay in the raw mail."""

    part: str
    filename: str
    type: str
    size: int


class MailRouted(Contract):
    """A mail has its place in a mailbox, with what a subscriber needs to decide, and no body."""

    name: ClassVar[str] = "mail.routed"
    publishers: ClassVar[tuple[str, ...]] = ("router",)
    key_suffixes: ClassVar[tuple[str, ...]] = (".central", ".private")

    mail: UUID = Field(description="the logical mail: the same for each of its arrivals")
    placement: UUID = Field(description="uuid5 of mail, mailbox and account")
    mailbox: UUID
    mailbox_kind: MailboxKind
    account: UUID
    arrival: UUID
    direction: Literal["in", "out"]
    message_id: str | None = Field(description="RFC 5322 Message-ID, without angle brackets")
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    from_: Annotated[tuple[Address, ...], Field(alias="from")] = ()
    sender: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    delivered_to: tuple[str, ...] = ()
    return_path: str | None = Field(default=None, description="empty for the null reverse-path")
    subject: str = ""
    date: AwareDatetime | None = None
    tags: tuple[str, ...] = Field(default=(), description="each […#…] in subject or text")
    auto: Automatic = "none"
    spam: bool = False
    authentication: str | None = Field(
        default=None, description="the topmost Authentication-Results (RFC 8601), as it came"
    )
    attachments: tuple[RoutedAttachment, ...] = ()
    raw: ObjectRef
    parsed: ObjectRef | None = Field(description="JSON: headers, text, HTML, parts, report")
    defects: tuple[str, ...] = ()
    backfill: bool = False
    rule: str = Field(description="which rule chose the mailbox")
    reason: str = Field(description="why, in a person's words")
    received_at: AwareDatetime

    def routing_key(self) -> str:
        """`mail.routed.central` or `mail.routed.private`, by the kind of its mailbox."""
        return f"{self.name}.{self.mailbox_kind}"
