"""`mailroom user …` and `mailroom group …`."""

from collections.abc import Sequence
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom_directory import fields, listing, queries, store
from mailroom_directory.commands.list_show_remove import add_list_show_remove
from mailroom_directory.commands.session import changing, run


@click.group()
def user() -> None:
    """Who there is."""


@click.group()
def group() -> None:
    """Users who have the same rights."""


add_list_show_remove(user, "user", ["name", "display_name", "address", "groups"])
add_list_show_remove(group, "group", ["name", "members", "read", "write"])

_display_name = click.option("--display-name", metavar="TEXT", help="as others see it")
_address = click.option("--address", metavar="ADDRESS", help="where the user is written to")


@user.command("add")
@click.argument("name")
@_display_name
@_address
def add_user(name: str, display_name: str | None, address: str | None) -> None:
    """Add a user."""
    run(_add_user(name, display_name or "", address))
    click.echo(f"user {name} added")


async def _add_user(name: str, display_name: str, address: str | None) -> None:
    values = {
        "name": fields.name(name),
        "display_name": fields.line(display_name, "--display-name"),
        "address": fields.address(address) if address else None,
    }
    async with changing(name) as change:
        change.changed("user", await queries.add(change.tx, "user", values, change.at))


@user.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call the user so from now on")
@_display_name
@_address
def change_user(
    name: str, new_name: str | None, display_name: str | None, address: str | None
) -> None:
    """Change a user. An empty value clears a field."""
    run(_change_user(name, new_name, display_name, address))
    click.echo(f"user {name} changed")


async def _change_user(
    name: str, new_name: str | None, display_name: str | None, address: str | None
) -> None:
    values: dict[str, str | None] = {}
    if new_name is not None:
        values["name"] = fields.name(new_name, "--name")
    if display_name is not None:
        values["display_name"] = fields.line(display_name, "--display-name")
    if address is not None:
        values["address"] = fields.address(address) if address else None
    async with changing(new_name or name, is_there=True) as change:
        found = await listing.entry(change.tx, "user", name)
        await queries.change(change.tx, "user", found["id"], values)
        change.changed("user", found["id"])


_add = click.option(
    "--add", "added", multiple=True, metavar="USER", help="a new member; repeatable"
)
_drop = click.option(
    "--drop", "dropped", multiple=True, metavar="USER", help="no more a member; repeatable"
)


@group.command("add")
@click.argument("name")
@_add
def add_group(name: str, added: tuple[str, ...]) -> None:
    """Add a group, with members or without."""
    run(_add_group(name, added))
    click.echo(f"group {name} added")


async def _add_group(name: str, added: tuple[str, ...]) -> None:
    values = {"name": fields.name(name)}
    async with changing(name) as change:
        made = await queries.add(change.tx, "group", values, change.at)
        await _members(change.tx, made, added, ())
        change.changed("group", made)


@group.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call the group so from now on")
@_add
@_drop
def change_group(
    name: str, new_name: str | None, added: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Change a group's name or members."""
    run(_change_group(name, new_name, added, dropped))
    click.echo(f"group {name} changed")


async def _change_group(
    name: str, new_name: str | None, added: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    values = {} if new_name is None else {"name": fields.name(new_name, "--name")}
    async with changing(new_name or name, is_there=True) as change:
        found = await listing.entry(change.tx, "group", name)
        await queries.change(change.tx, "group", found["id"], values)
        await _members(change.tx, found["id"], added, dropped)
        change.changed("group", found["id"])


async def _members(
    tx: AsyncConnection, group_id: UUID, added: Sequence[str], dropped: Sequence[str]
) -> None:
    owner = {"group_id": group_id}
    new = await listing.ids(tx, "user", added, "--add")
    old = await listing.ids(tx, "user", dropped, "--drop")
    await queries.link(tx, store.memberships, owner, "user_id", new)
    await queries.unlink(tx, store.memberships, owner, "user_id", old, "--drop")
