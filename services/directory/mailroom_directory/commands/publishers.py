"""`mailroom publisher …`: other programs that may have mail sent."""

from collections.abc import Sequence
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging.topology import is_ours
from mailroom_directory import fields, listing, queries, store
from mailroom_directory.commands.list_show_remove import add_list_show_remove
from mailroom_directory.commands.session import changing, run
from mailroom_directory.fields import FieldRefused


@click.group()
def publisher() -> None:
    """Other programs that have mail sent. Their users, and the accounts they may send with."""


add_list_show_remove(publisher, "publisher", ["name", "accounts"])


@publisher.command("add")
@click.argument("name")
@click.option(
    "--account", "added", multiple=True, metavar="ACCOUNT", help="may send with it; repeatable"
)
def add(name: str, added: tuple[str, ...]) -> None:
    """Let the broker user NAME have mail sent."""
    run(_add(name, added))
    click.echo(f"publisher {name} added")


async def _add(name: str, added: Sequence[str]) -> None:
    values = {"name": _name(name, "NAME")}
    async with changing(name) as change:
        made = await queries.add(change.tx, "publisher", values, change.at)
        await _allow(change.tx, made, added, "--account")
        change.changed("publisher", made)


@publisher.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="the broker user's new name")
@click.option(
    "--add-account", "added", multiple=True, metavar="ACCOUNT", help="may send with it; repeatable"
)
@click.option(
    "--drop-account", "dropped", multiple=True, metavar="ACCOUNT", help="may no more; repeatable"
)
def change_(
    name: str, new_name: str | None, added: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Change a publisher's name or accounts."""
    run(_change(name, new_name, added, dropped))
    click.echo(f"publisher {name} changed")


async def _change(
    name: str, new_name: str | None, added: Sequence[str], dropped: Sequence[str]
) -> None:
    values = {} if new_name is None else {"name": _name(new_name, "--name")}
    async with changing(new_name or name, is_there=True) as change:
        found = await listing.entry(change.tx, "publisher", name)
        await queries.change(change.tx, "publisher", found["id"], values)
        await _allow(change.tx, found["id"], added, "--add-account")
        await _forbid(change.tx, found["id"], dropped, "--drop-account")
        change.changed("publisher", found["id"])


def _name(name: str, field: str) -> str:
    if is_ours(name.lower()):
        remedy = "begins as a service of Mailroom or its queues do; take another"
        raise FieldRefused(field, name, remedy)
    return fields.name(name, field)


async def _allow(
    tx: AsyncConnection, publisher_id: UUID, accounts: Sequence[str], field: str
) -> None:
    ids = await listing.ids(tx, "account", accounts, field)
    owner = {"publisher_id": publisher_id}
    await queries.link(tx, store.publisher_accounts, owner, "account_id", ids)


async def _forbid(
    tx: AsyncConnection, publisher_id: UUID, accounts: Sequence[str], field: str
) -> None:
    ids = await listing.ids(tx, "account", accounts, field)
    owner = {"publisher_id": publisher_id}
    await queries.unlink(tx, store.publisher_accounts, owner, "account_id", ids, field)
