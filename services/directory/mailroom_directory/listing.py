"""What the directory shows of each kind of thing that people name.

Invariant: `list` and `show` tell the same of a thing. Things are found by name, in any case, or by
id; what is not there is refused by the name that a person gave.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    Text,
    func,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom_directory import store
from mailroom_directory.fields import FieldRefused

KindName = Literal["user", "group", "mailbox", "account", "publisher"]


@dataclass(frozen=True)
class Kind:
    """A kind of thing that people name: its table, and all that is shown of one."""

    table: Table
    shown: Select[Any]


def _names(query: Select[tuple[str]]) -> ColumnElement[list[str]]:
    return func.array(
        query.order_by(query.selected_columns[0]).scalar_subquery(), type_=ARRAY(Text)
    )


_users = select(
    store.users.c.id,
    store.users.c.name,
    store.users.c.display_name,
    store.users.c.address,
    _names(
        select(store.groups.c.name)
        .select_from(store.groups.join(store.memberships))
        .where(store.memberships.c.user_id == store.users.c.id)
    ).label("groups"),
    _names(
        select(store.mailboxes.c.name).where(store.mailboxes.c.owner_id == store.users.c.id)
    ).label("mailboxes"),
    _names(
        select(store.accounts.c.name)
        .select_from(store.accounts.join(store.mailboxes))
        .where(store.mailboxes.c.owner_id == store.users.c.id)
    ).label("accounts"),
)


def _mailboxes_of_group(level: str) -> ColumnElement[list[str]]:
    return _names(
        select(store.mailboxes.c.name)
        .select_from(store.mailboxes.join(store.rights))
        .where(store.rights.c.group_id == store.groups.c.id, store.rights.c.level == level)
    ).label(level)


_groups = select(
    store.groups.c.id,
    store.groups.c.name,
    _names(
        select(store.users.c.name)
        .select_from(store.users.join(store.memberships))
        .where(store.memberships.c.group_id == store.groups.c.id)
    ).label("members"),
    _mailboxes_of_group("read"),
    _mailboxes_of_group("write"),
)


def _groups_of_mailbox(level: str) -> ColumnElement[list[str]]:
    return _names(
        select(store.groups.c.name)
        .select_from(store.groups.join(store.rights))
        .where(store.rights.c.mailbox_id == store.mailboxes.c.id, store.rights.c.level == level)
    ).label(level)


_mailboxes = select(
    store.mailboxes.c.id,
    store.mailboxes.c.name,
    store.mailboxes.c.kind,
    _names(
        select(store.mailbox_addresses.c.address).where(
            store.mailbox_addresses.c.mailbox_id == store.mailboxes.c.id
        )
    ).label("addresses"),
    store.users.c.name.label("owner"),
    _names(
        select(store.accounts.c.name).where(store.accounts.c.mailbox_id == store.mailboxes.c.id)
    ).label("accounts"),
    _groups_of_mailbox("read"),
    _groups_of_mailbox("write"),
).select_from(store.mailboxes.outerjoin(store.users))

_accounts = select(
    *(column for column in store.accounts.c if column.name not in {"mailbox_id", "created_at"}),
    store.mailboxes.c.name.label("mailbox"),
    _names(
        select(store.publishers.c.name)
        .select_from(store.publishers.join(store.publisher_accounts))
        .where(store.publisher_accounts.c.account_id == store.accounts.c.id)
    ).label("publishers"),
).select_from(store.accounts.join(store.mailboxes))

_publishers = select(
    store.publishers.c.id,
    store.publishers.c.name,
    _names(
        select(store.accounts.c.name)
        .select_from(store.accounts.join(store.publisher_accounts))
        .where(store.publisher_accounts.c.publisher_id == store.publishers.c.id)
    ).label("accounts"),
)

KINDS: Mapping[KindName, Kind] = {
    "user": Kind(store.users, _users),
    "group": Kind(store.groups, _groups),
    "mailbox": Kind(store.mailboxes, _mailboxes),
    "account": Kind(store.accounts, _accounts),
    "publisher": Kind(store.publishers, _publishers),
}


def _is(table: Table, name: str) -> ColumnElement[bool]:
    return or_(func.lower(table.c.name) == name.lower(), sql_cast(table.c.id, Text) == name.lower())


async def entries(tx: AsyncConnection, kind: KindName) -> list[dict[str, Any]]:
    """All that there is of a kind, by name, as it is shown."""
    table = KINDS[kind].table
    rows = await tx.execute(KINDS[kind].shown.order_by(func.lower(table.c.name)))
    return [dict(row) for row in rows.mappings()]


async def entry(
    tx: AsyncConnection, kind: KindName, name: str, field: str = "NAME"
) -> dict[str, Any]:
    """The one of this name or id, as it is shown. Raises FieldRefused."""
    query = KINDS[kind].shown.where(_is(KINDS[kind].table, name))
    found = (await tx.execute(query)).mappings().one_or_none()
    if found is None:
        raise FieldRefused(
            field, name, f"no such {kind}: `mailroom {kind} list` shows what there is"
        )
    return dict(found)


async def ids(
    tx: AsyncConnection, kind: KindName, names: Iterable[str], field: str
) -> dict[UUID, str]:
    """The ids that these names have, with the names. Raises FieldRefused."""
    return {(await entry(tx, kind, name, field))["id"]: name for name in names}
