"""Reads the directory's SQL views.

Invariant: a view answers the roles it is granted to (anybody else gets `permission denied`), and is
read anew in each transaction, so that a revocation never lags.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    LargeBinary,
    RowMapping,
    Text,
    Uuid,
    and_,
    bindparam,
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

from mailroom.directory.model import Account, Folder, Mailbox, Server

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


# Built once: docs/decisions/statements-are-built-once.md.
_ACCOUNTS = select(ACCOUNTS).order_by(ACCOUNTS.c.name)
_IMAP, _SMTP = CREDENTIALS.alias("imap"), CREDENTIALS.alias("smtp")
_WITH_PASSWORDS = (
    select(
        ACCOUNTS,
        _IMAP.c.sealed_password.label("imap_sealed_password"),
        _SMTP.c.sealed_password.label("smtp_sealed_password"),
    )
    .outerjoin(_IMAP, and_(_IMAP.c.account == ACCOUNTS.c.id, _IMAP.c.protocol == "imap"))
    .outerjoin(_SMTP, and_(_SMTP.c.account == ACCOUNTS.c.id, _SMTP.c.protocol == "smtp"))
    .order_by(ACCOUNTS.c.name)
)
_NAMED = select(ACCOUNTS).where(
    or_(
        func.lower(ACCOUNTS.c.name) == bindparam("name_or_id"),
        cast(ACCOUNTS.c.id, Text) == bindparam("name_or_id"),
    )
)
_ONE_WITH_PASSWORDS = _WITH_PASSWORDS.where(ACCOUNTS.c.id == bindparam("wanted"))
_MAILBOXES = select(MAILBOXES).order_by(MAILBOXES.c.name)
_ALLOWED = select(true()).where(
    PUBLISHERS.c.publisher == bindparam("name"), PUBLISHERS.c.account == bindparam("wanted")
)


async def accounts(tx: AsyncConnection) -> list[Account]:
    """All accounts, disabled ones too, by name; without passwords."""
    return [_account(row) for row in (await tx.execute(_ACCOUNTS)).mappings()]


async def accounts_with_passwords(tx: AsyncConnection) -> list[Account]:
    """As `accounts`, with sealed passwords. Raises ProgrammingError for who may not unseal."""
    return [_account(row) for row in (await tx.execute(_WITH_PASSWORDS)).mappings()]


async def account(tx: AsyncConnection, name_or_id: str) -> Account | None:
    """The account of this name (in any case) or id; without passwords."""
    found = await tx.execute(_NAMED, {"name_or_id": name_or_id.lower()})
    row = found.mappings().one_or_none()
    return _account(row) if row else None


async def account_with_passwords(tx: AsyncConnection, id_: UUID) -> Account | None:
    """The account of this id, with sealed passwords. Raises as `accounts_with_passwords` does."""
    row = (await tx.execute(_ONE_WITH_PASSWORDS, {"wanted": id_})).mappings().one_or_none()
    return _account(row) if row else None


async def mailboxes(tx: AsyncConnection) -> list[Mailbox]:
    """All mailboxes, by name."""
    return [
        Mailbox(row.id, row.name, row.kind, tuple(row.addresses), row.owner)
        for row in await tx.execute(_MAILBOXES)
    ]


async def may_send(tx: AsyncConnection, publisher: str, account: UUID) -> bool:
    """Whether this broker user may have mail sent with the account.

    Mailroom's own services may with each; others with those that the directory lists for them.
    """
    if publisher in OWN_SERVICES:
        return True
    allowed = await tx.execute(_ALLOWED, {"name": publisher, "wanted": account})
    return allowed.first() is not None


def _account(row: RowMapping) -> Account:
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


def _server(row: RowMapping, protocol: str) -> Server | None:
    if row[f"{protocol}_host"] is None:
        return None
    return Server(
        row[f"{protocol}_host"],
        row[f"{protocol}_port"],
        row[f"{protocol}_tls"],
        row[f"{protocol}_user"],
        row.get(f"{protocol}_sealed_password") or b"",
    )
