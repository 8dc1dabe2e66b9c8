"""Reads the directory through its SQL views, and unseals the passwords that stand there.

Invariant: this is the one way into the directory from outside. Views are granted per role
(`permission denied` is the answer to anybody else), read anew in each transaction, so that a
revocation never lags. A password is opened only for the host and user it was sealed for.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from sqlalchemy import (
    DateTime,
    LargeBinary,
    Select,
    Text,
    Uuid,
    and_,
    cast,
    column,
    func,
    or_,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import FolderRole, MailboxKind

TlsMode = Literal["implicit", "starttls", "none"]
"""`implicit`: TLS from the first byte (RFC 8314). `starttls`: a plain greeting, then STARTTLS or
nothing. `none`: plain text, on the loopback alone."""

OWN_SERVICES = frozenset(
    {
        "directory",
        "fetcher",
        "router",
        "mailbox",
        "sender",
        "ticketing",
        "crm-linker",
        "shop-notifier",
    }
)
"""Mailroom's own broker users: each may send with every account, none can be a publisher's name."""


@dataclass(frozen=True)
class Server:
    """Where and as whom an account logs in."""

    host: str
    port: int
    tls: TlsMode
    user: str
    sealed_password: bytes = field(repr=False)
    """Empty for a role that may not read `directory.credentials_v1`."""


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


def _server_columns(protocol: str) -> list[Any]:
    return [
        column(f"{protocol}_host", Text),
        column(f"{protocol}_port"),
        column(f"{protocol}_tls", Text),
        column(f"{protocol}_user", Text),
    ]


ACCOUNTS = table(
    "accounts_v1",
    column("id", Uuid),
    column("name", Text),
    column("address", Text),
    column("display_name", Text),
    column("mailbox", Uuid),
    *_server_columns("imap"),
    *_server_columns("smtp"),
    column("folders", JSONB),
    column("sent", Text),
    column("sent_folder", Text),
    column("unknown", Text),
    column("start", DateTime(timezone=True)),
    column("interval"),
    column("calendar", Text),
    column("timezone", Text),
    column("idle"),
    column("enabled"),
    schema="directory",
)
CREDENTIALS = table(
    "credentials_v1",
    column("account", Uuid),
    column("protocol", Text),
    column("sealed_password", LargeBinary),
    schema="directory",
)
MAILBOXES = table(
    "mailboxes_v1",
    column("id", Uuid),
    column("name", Text),
    column("kind", Text),
    column("addresses", JSONB),
    column("owner", Uuid),
    schema="directory",
)
PUBLISHERS = table(
    "publishers_v1",
    column("publisher", Text),
    column("account", Uuid),
    schema="directory",
)


async def accounts(tx: AsyncConnection) -> list[Account]:
    """All accounts, disabled ones too, by name."""
    rows = await tx.execute((await _accounts(tx)).order_by(ACCOUNTS.c.name))
    return [_account(row) for row in rows.mappings()]


async def account(tx: AsyncConnection, name_or_id: str) -> Account | None:
    """The account of this name (in any case) or id."""
    wanted = or_(
        func.lower(ACCOUNTS.c.name) == name_or_id.lower(),
        cast(ACCOUNTS.c.id, Text) == name_or_id.lower(),
    )
    row = (await tx.execute((await _accounts(tx)).where(wanted))).mappings().one_or_none()
    return _account(row) if row else None


async def mailboxes(tx: AsyncConnection) -> list[Mailbox]:
    """All mailboxes, by name."""
    rows = await tx.execute(select(MAILBOXES).order_by(MAILBOXES.c.name))
    return [
        Mailbox(row.id, row.name, row.kind, tuple(row.addresses), row.owner) for row in rows.all()
    ]


async def may_send(tx: AsyncConnection, publisher: str, account: UUID) -> bool:
    """Whether this broker user may have mail sent with the account.

    Mailroom's own services may with each; others with those that the directory lists for them.
    """
    if publisher in OWN_SERVICES:
        return True
    allowed = select(true()).where(
        PUBLISHERS.c.publisher == publisher, PUBLISHERS.c.account == account
    )
    return (await tx.execute(allowed)).first() is not None


async def _accounts(tx: AsyncConnection) -> Select[Any]:
    """The accounts, with sealed passwords where this role may read them."""
    privilege = func.has_table_privilege("directory.credentials_v1", "select")
    if not (await tx.execute(select(privilege))).scalar_one():
        return select(ACCOUNTS)
    imap, smtp = CREDENTIALS.alias("imap"), CREDENTIALS.alias("smtp")
    return (
        select(
            ACCOUNTS,
            imap.c.sealed_password.label("imap_sealed_password"),
            smtp.c.sealed_password.label("smtp_sealed_password"),
        )
        .outerjoin(imap, and_(imap.c.account == ACCOUNTS.c.id, imap.c.protocol == "imap"))
        .outerjoin(smtp, and_(smtp.c.account == ACCOUNTS.c.id, smtp.c.protocol == "smtp"))
    )


def _account(row: Mapping[str, Any]) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        address=row["address"],
        display_name=row["display_name"],
        mailbox=row["mailbox"],
        imap=_server(row, "imap"),
        smtp=_server(row, "smtp"),
        folders=tuple(Folder(folder["name"], folder["role"]) for folder in row["folders"]),
        sent=row["sent"],
        sent_folder=row["sent_folder"],
        unknown=row["unknown"],
        start=row["start"],
        interval=row["interval"],
        calendar=row["calendar"],
        timezone=row["timezone"],
        idle=row["idle"],
        enabled=row["enabled"],
    )


def _server(row: Mapping[str, Any], protocol: str) -> Server | None:
    if row[f"{protocol}_host"] is None:
        return None
    return Server(
        row[f"{protocol}_host"],
        row[f"{protocol}_port"],
        row[f"{protocol}_tls"],
        row[f"{protocol}_user"],
        row.get(f"{protocol}_sealed_password") or b"",
    )


@dataclass(frozen=True)
class UnsealKeys:
    """The private ring, newest key first: passwords sealed before a rotation still open."""

    ring: tuple[PrivateKey, ...] = field(repr=False)


class KeyFileRefused(Exception):
    """A key file that cannot be used; says which, and what to do."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path = path
        super().__init__(f"key file {path}: {remedy}")


class PasswordSealed(Exception):
    """No key of the ring opens this password, or it was sealed for another host or user."""

    def __init__(self, host: str, user: str, why: str) -> None:
        self.host, self.user = host, user
        super().__init__(
            f"the password of {user} at {host} cannot be opened: {why}; "
            "give it again with `mailroom account change`"
        )


def load_seal_key(path: Path) -> PublicKey:
    """The public key that passwords are sealed to. Raises KeyFileRefused."""
    keys = _read_keys(path)
    if len(keys) != 1:
        raise KeyFileRefused(
            path, f"holds {len(keys)} keys; the public key stands alone, in line 1"
        )
    return PublicKey(keys[0])


def load_keys(path: Path) -> UnsealKeys:
    """The private ring: one key a line in base64, newest first. Raises KeyFileRefused."""
    keys = _read_keys(path)
    if not keys:
        raise KeyFileRefused(path, "is empty; make keys with `mailroom account keys FOLDER`")
    return UnsealKeys(tuple(PrivateKey(key) for key in keys))


def _read_keys(path: Path) -> list[bytes]:
    try:
        lines = path.read_text("ascii").split()
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except OSError as failure:
        remedy = f"{failure.strerror}; make keys with `mailroom account keys FOLDER`"
        raise KeyFileRefused(path, remedy) from None
    except (binascii.Error, UnicodeDecodeError):
        # The cause would show the line, which may be a key.
        raise KeyFileRefused(path, "holds a line that is not base64") from None
    if any(len(key) != PrivateKey.SIZE for key in keys):
        raise KeyFileRefused(path, f"holds a line that is not {PrivateKey.SIZE} bytes in base64")
    return keys


def seal(host: str, user: str, password: str, key: PublicKey) -> bytes:
    """Seal a password for this host and user; what seals cannot open."""
    bound = json.dumps({"host": host, "user": user, "password": password})
    return SealedBox(key).encrypt(bound.encode())


def unseal(server: Server, keys: UnsealKeys) -> str:
    """The password of a server. Raises PasswordSealed.

    It was sealed together with host and user, and opens for these alone: who may write the
    directory, but not read passwords, must not learn one by pointing an account at a host of his.
    """
    if not server.sealed_password:
        raise PasswordSealed(server.host, server.user, "this database role may not read it")
    for key in keys.ring:
        try:
            bound = json.loads(SealedBox(key).decrypt(server.sealed_password))
        except CryptoError:
            continue
        if (bound["host"], bound["user"]) != (server.host, server.user):
            raise PasswordSealed(server.host, server.user, "it was sealed for another login")
        return str(bound["password"])
    raise PasswordSealed(server.host, server.user, "no key of the ring fits")
