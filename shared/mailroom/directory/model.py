"""What the directory holds for the others, as plain data: accounts, their servers, mailboxes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from mailroom.contracts import FolderRole, MailboxKind

TlsMode = Literal["implicit", "starttls", "none"]
"""`implicit`: TLS from the first byte (RFC 8314). `starttls`: a plain greeting, then STARTTLS or
nothing. `none`: plain text, on the loopback alone."""


@dataclass(frozen=True)
class Server:
    """Where and as whom an account logs in."""

    host: str
    port: int
    tls: TlsMode
    user: str
    sealed_password: bytes = field(repr=False)
    """Empty where the account was read without passwords."""


@dataclass(frozen=True)
class Folder:
    """A folder of an account that is read, by the name that the server gives it, decoded."""

    name: str
    role: FolderRole


@dataclass(frozen=True)
class Account:
    """A login at a mail server, with what is to be done there."""

    id: UUID
    name: str
    address: str
    """What its mails come from."""
    display_name: str
    mailbox: UUID
    """The mailbox that it feeds when nothing else decides."""
    imap: Server | None
    smtp: Server | None
    folders: tuple[Folder, ...]
    """Empty: INBOX and the server's \\Sent (RFC 6154)."""
    sent: Literal["append", "server"]
    """Append a copy to the Sent folder, or the server files it itself (Gmail)."""
    sent_folder: str | None
    """None: the server's \\Sent (RFC 6154), else "Sent"."""
    unknown: Literal["resend", "hold"]
    """What to do with a mail of which nobody knows whether it left."""
    start: datetime
    """Mail with an older internal date is backfill."""
    interval: int
    """Seconds from one look to the next, 5 at least."""
    calendar: str | None
    """A cron expression that says when to look, instead of the interval."""
    timezone: str
    """IANA name of the zone that `calendar` is reckoned in."""
    idle: bool
    """Use IDLE (RFC 2177) where the server has it."""
    enabled: bool


@dataclass(frozen=True)
class Mailbox:
    """A mailbox of ours, fed by accounts."""

    id: UUID
    name: str
    kind: MailboxKind
    addresses: tuple[str, ...]
    """In lower case; no two mailboxes share one."""
    owner: UUID | None
    """The user of a private mailbox; None for a central one."""
