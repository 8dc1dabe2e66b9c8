"""`list`, `show` and `remove`, the same for everything that people name."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.printing import as_json, fields, table
from mailroom_directory import listing, queries
from mailroom_directory.commands.session import changing, reading, run
from mailroom_directory.listing import KindName

Rows = list[dict[str, Any]]
Complete = Callable[[AsyncConnection, Rows], Awaitable[Rows]]
"""Adds to rows what their query does not have."""

json_option = click.option("--json", "json_", is_flag=True, help="one JSON object a line")


async def _as_they_are(_: AsyncConnection, rows: Rows) -> Rows:
    return rows


def add_list_show_remove(
    group: click.Group,
    kind: KindName,
    columns: Sequence[str],
    complete: Complete = _as_they_are,
) -> None:
    """Add the three commands to a kind's group; `columns` are those of its list."""

    @group.command("list", help="List what there is, by name.")
    @json_option
    def list_(json_: bool) -> None:  # noqa: FBT001 -- click passes options so
        found = run(_all(kind, complete))
        for line in map(as_json, found) if json_ else table(found, columns):
            click.echo(line)

    @group.command("show", help=f"Show the {kind} NAME.")
    @click.argument("name")
    @json_option
    def show(name: str, json_: bool) -> None:  # noqa: FBT001 -- click passes options so
        found = run(_one(kind, name, complete))
        for line in [as_json(found)] if json_ else fields(found):
            click.echo(line)

    @group.command("remove", help=f"Remove the {kind} NAME. Nothing else may need it.")
    @click.argument("name")
    def remove(name: str) -> None:
        run(_remove(kind, name))
        click.echo(f"{kind} {name} removed")


async def _all(kind: KindName, complete: Complete) -> Rows:
    async with reading() as tx:
        return await complete(tx, await listing.entries(tx, kind))


async def _one(kind: KindName, name: str, complete: Complete) -> dict[str, Any]:
    async with reading() as tx:
        (row,) = await complete(tx, [await listing.entry(tx, kind, name)])
        return row


async def _remove(kind: KindName, name: str) -> None:
    async with changing(name) as change:
        found = await listing.entry(change.tx, kind, name)
        await queries.remove(change.tx, kind, found["id"])
        change.changed(kind, found["id"])
