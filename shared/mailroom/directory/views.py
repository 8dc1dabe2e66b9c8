"""Reads the directory's SQL views.

Invariant: a view answers the roles it is granted to (anybody else gets `permission denied`), and is
read anew in each transaction, so that a revocation never lags.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
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
    return await _one_account(tx, wanted)


async def account_of(tx: AsyncConnection, id_: UUID) -> Account | None:
    """The account of this id."""
    return await _one_account(tx, ACCOUNTS.c.id == id_)


async def _one_account(tx: AsyncConnection, wanted: ColumnElement[bool]) -> Account | None:
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
