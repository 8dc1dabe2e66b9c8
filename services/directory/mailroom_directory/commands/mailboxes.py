"""`mailroom mailbox …`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom_directory import fields, listing, queries, store
from mailroom_directory.commands.list_show_remove import add_list_show_remove
from mailroom_directory.commands.session import changing, run
from mailroom_directory.fields import FieldRefused


@click.group()
def mailbox() -> None:
    """Where mail is kept for people. Central for groups, private for one user."""


add_list_show_remove(mailbox, "mailbox", ["name", "kind", "owner", "addresses", "accounts"])

_read = click.option("--read", multiple=True, metavar="GROUP", help="may read its mail; repeatable")
_write = click.option(
    "--write", multiple=True, metavar="GROUP", help="may read, answer and move; repeatable"
)


@dataclass(frozen=True)
class _Rights:
    read: Sequence[str]
    write: Sequence[str]
    revoke: Sequence[str] = ()


@mailbox.command("add")
@click.argument("name")
@click.option(
    "--address", "addresses", multiple=True, metavar="ADDRESS", help="mail to it; repeatable"
)
@click.option("--owner", metavar="USER", help="makes it this user's private mailbox")
@_read
@_write
def add(
    name: str,
    addresses: tuple[str, ...],
    owner: str | None,
    read: tuple[str, ...],
    write: tuple[str, ...],
) -> None:
    """Add a mailbox. It is central, or with --owner a private one."""
    run(_add(name, addresses, owner, _Rights(read, write)))
    click.echo(f"mailbox {name} added")


async def _add(name: str, addresses: Sequence[str], owner: str | None, rights: _Rights) -> None:
    values: dict[str, Any] = {"name": fields.name(name), "kind": "central", "owner_id": None}
    new = [fields.address(address) for address in addresses]
    async with changing(name) as change:
        if owner:
            values["kind"] = "private"
            values["owner_id"] = (await listing.entry(change.tx, "user", owner, "--owner"))["id"]
        made = await queries.add(change.tx, "mailbox", values, change.at)
        await queries.add_addresses(change.tx, made, new)
        await _set_rights(change.tx, made, rights, kind=values["kind"])
        change.changed("mailbox", made)


@mailbox.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call the mailbox so from now on")
@click.option("--owner", metavar="USER", help="of a private mailbox, from now on")
@click.option(
    "--add-address", "added", multiple=True, metavar="ADDRESS", help="mail to it; repeatable"
)
@click.option(
    "--drop-address", "dropped", multiple=True, metavar="ADDRESS", help="no more; repeatable"
)
@_read
@_write
@click.option(
    "--revoke", multiple=True, metavar="GROUP", help="has no right on it any more; repeatable"
)
def change_(name: str, **options: Any) -> None:
    """Change a mailbox. What is central stays central."""
    run(_change(name, options))
    click.echo(f"mailbox {name} changed")


async def _change(name: str, options: dict[str, Any]) -> None:
    new_name, owner = options["new_name"], options["owner"]
    values: dict[str, Any] = {}
    if new_name is not None:
        values["name"] = fields.name(new_name, "--name")
    added = [fields.address(address, "--add-address") for address in options["added"]]
    dropped = {address.lower(): address for address in options["dropped"]}
    rights = _Rights(options["read"], options["write"], options["revoke"])
    async with changing(new_name or name, is_there=True) as change:
        tx = change.tx
        found = await listing.entry(tx, "mailbox", name)
        if owner is not None:
            values["owner_id"] = await _new_owner(tx, owner, kind=found["kind"])
        key = {"mailbox_id": found["id"]}
        await queries.change(tx, "mailbox", found["id"], values)
        await queries.unlink(tx, store.mailbox_addresses, key, "address", dropped, "--drop-address")
        await queries.add_addresses(tx, found["id"], added)
        await _set_rights(tx, found["id"], rights, kind=found["kind"])
        change.changed("mailbox", found["id"])


async def _new_owner(tx: AsyncConnection, owner: str, *, kind: str) -> UUID:
    if kind == "central":
        raise FieldRefused("--owner", owner, "the mailbox is central; add a private one instead")
    owner_id: UUID = (await listing.entry(tx, "user", owner, "--owner"))["id"]
    return owner_id


async def _set_rights(tx: AsyncConnection, mailbox_id: UUID, rights: _Rights, *, kind: str) -> None:
    asked = [*rights.read, *rights.write, *rights.revoke]
    if asked and kind == "private":
        raise FieldRefused("GROUP", asked[0], "a private mailbox is for its owner alone")
    owner = {"mailbox_id": mailbox_id}
    revoked = await listing.ids(tx, "group", rights.revoke, "--revoke")
    await queries.unlink(tx, store.rights, owner, "group_id", revoked, "--revoke")
    await queries.grant(
        tx, mailbox_id, await listing.ids(tx, "group", rights.read, "--read"), "read"
    )
    await queries.grant(
        tx, mailbox_id, await listing.ids(tx, "group", rights.write, "--write"), "write"
    )
