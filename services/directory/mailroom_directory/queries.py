"""What the directory's commands and its service write into its tables, and read back.

Invariant: each function works in its caller's transaction and commits nothing; two replicas touch
the rows of several accounts in the same order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Table, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import AccountObserved
from mailroom.directory.model import Folder
from mailroom_directory import store
from mailroom_directory.fields import FieldRefused
from mailroom_directory.listing import KINDS, KindName
from mailroom_directory.logins import SealedLogin
from mailroom_directory.server_urls import Login, Protocol
from mailroom_directory.states import CLOCKS_DIFFER, State


async def add(tx: AsyncConnection, kind: KindName, values: Mapping[str, Any], at: datetime) -> UUID:
    """Store a new one; its id. A name that is taken breaks the constraint `<table>_name`."""
    made = uuid4()
    await tx.execute(insert(KINDS[kind].table).values(id=made, created_at=at, **values))
    return made


async def change(tx: AsyncConnection, kind: KindName, id_: UUID, values: Mapping[str, Any]) -> None:
    """Set these columns, if any."""
    table = KINDS[kind].table
    if values:
        await tx.execute(update(table).where(table.c.id == id_).values(**values))


async def remove(tx: AsyncConnection, kind: KindName, id_: UUID) -> None:
    """Remove it with all that belongs to it; what others hold on to breaks a constraint."""
    table = KINDS[kind].table
    await tx.execute(delete(table).where(table.c.id == id_))


async def link(
    tx: AsyncConnection, table: Table, owner: Mapping[str, UUID], column: str, values: Iterable[Any]
) -> None:
    """Add rows to a table of links; those that are there stay."""
    rows = [{**owner, column: value} for value in values]
    if rows:
        await tx.execute(upsert(table).on_conflict_do_nothing(), rows)


async def unlink(
    tx: AsyncConnection,
    table: Table,
    owner: Mapping[str, UUID],
    column: str,
    values: Mapping[Any, str],
    field: str,
) -> None:
    """Remove links. Raises FieldRefused by the name of one that is not there."""
    for value, name in values.items():
        keys = [table.c[key] == wanted for key, wanted in {**owner, column: value}.items()]
        if (await tx.execute(delete(table).where(*keys))).rowcount == 0:
            raise FieldRefused(field, name, "is not there, so it cannot be taken away")


async def add_addresses(tx: AsyncConnection, mailbox: UUID, addresses: Sequence[str]) -> None:
    """Give a mailbox addresses; one that any mailbox has breaks `mailbox_addresses_pkey`."""
    rows = [{"mailbox_id": mailbox, "address": address.lower()} for address in addresses]
    if rows:
        await tx.execute(insert(store.mailbox_addresses), rows)


async def grant(tx: AsyncConnection, mailbox: UUID, groups: Iterable[UUID], level: str) -> None:
    """Give groups this right on a mailbox, instead of what they had."""
    rows = [{"mailbox_id": mailbox, "group_id": group, "level": level} for group in groups]
    if rows:
        statement = upsert(store.rights)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["mailbox_id", "group_id"],
                set_={"level": statement.excluded.level},
            ),
            rows,
        )


async def servers(
    tx: AsyncConnection, account: UUID | None = None
) -> dict[UUID, dict[Protocol, SealedLogin]]:
    """The servers of all accounts, or of one."""
    query = select(store.servers)
    if account is not None:
        query = query.where(store.servers.c.account_id == account)
    found: dict[UUID, dict[Protocol, SealedLogin]] = {}
    for row in await tx.execute(query):
        login = Login(row.protocol, row.host, row.port, row.tls, row.username)
        stored = SealedLogin(login, row.sealed_password)
        found.setdefault(row.account_id, {})[row.protocol] = stored
    return found


async def set_servers(tx: AsyncConnection, account: UUID, servers: Sequence[SealedLogin]) -> None:
    """Store the servers of an account, instead of those that were."""
    await tx.execute(delete(store.servers).where(store.servers.c.account_id == account))
    rows = [
        {
            "account_id": account,
            "protocol": server.login.protocol,
            "host": server.login.host,
            "port": server.login.port,
            "tls": server.login.tls,
            "username": server.login.user,
            "sealed_password": server.password,
        }
        for server in servers
    ]
    if rows:
        await tx.execute(insert(store.servers), rows)


async def folders(
    tx: AsyncConnection, account: UUID | None = None
) -> dict[UUID, tuple[Folder, ...]]:
    """The chosen folders of all accounts that have such, or of one."""
    query = select(store.folders).order_by(store.folders.c.name)
    if account is not None:
        query = query.where(store.folders.c.account_id == account)
    found: dict[UUID, tuple[Folder, ...]] = {}
    for row in await tx.execute(query):
        found[row.account_id] = (*found.get(row.account_id, ()), Folder(row.name, row.role))
    return found


async def set_folders(tx: AsyncConnection, account: UUID, chosen: Sequence[Folder]) -> None:
    """Choose folders of an account, instead of those that were."""
    await tx.execute(delete(store.folders).where(store.folders.c.account_id == account))
    if chosen:
        rows = [{"account_id": account, **asdict(folder)} for folder in chosen]
        await tx.execute(insert(store.folders), rows)


async def account_states(tx: AsyncConnection) -> dict[UUID, State]:
    """The last observed state of each account."""
    columns = [store.account_states.c[field.name] for field in fields(State)]
    rows = await tx.execute(select(store.account_states.c.account_id, *columns))
    return {row.account_id: State(*row[1:]) for row in rows}


async def lock_accounts(tx: AsyncConnection, accounts: Iterable[UUID]) -> set[UUID]:
    """Which of these accounts there are; they cannot be removed before this transaction ends."""
    query = select(store.accounts.c.id).where(store.accounts.c.id.in_(list(accounts)))
    return set((await tx.execute(query.with_for_update(key_share=True, read=True))).scalars())


async def store_states(
    tx: AsyncConnection, observed: Sequence[AccountObserved], now: datetime
) -> None:
    """Store observations, one an account, where none newer is there.

    What was observed at a time still to come is not newer: the clock was put back since.
    """
    names = [field.name for field in fields(State)]
    rows = [
        {"account_id": event.account, **{name: getattr(event, name) for name in names}}
        for event in sorted(observed, key=lambda event: event.account)
    ]
    if not rows:
        return
    statement = upsert(store.account_states)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id"],
            set_={name: statement.excluded[name] for name in names},
            where=or_(
                store.account_states.c.observed_at < statement.excluded.observed_at,
                store.account_states.c.observed_at > now + CLOCKS_DIFFER,
            ),
        ),
        rows,
    )
