"""`mailroom ticket-queue …`: which mailboxes feed which ticket queue, and how it answers.

Invariant: a ticket queue names an account and mailboxes that the directory has; a mailbox feeds one
ticket queue at most, or its mail would be two tickets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, directory
from mailroom.cli import connected, refuse, run
from mailroom.printing import as_json, fields, table
from mailroom_ticketing import store
from mailroom_ticketing.known import TicketQueue
from mailroom_ticketing.settings import TicketingSettings

_json = click.option("--json", "json_", is_flag=True, help="one JSON object a line")
_language = click.Choice(["de", "en"])


@click.group("ticket-queue")
def ticket_queue() -> None:
    """Where tickets wait. Fed by mailboxes, answering from an account."""


@ticket_queue.command("add")
@click.argument("name")
@click.option(
    "--mailbox", "mailboxes", multiple=True, metavar="MAILBOX", help="feeds it; repeatable"
)
@click.option("--account", required=True, metavar="ACCOUNT", help="its answers leave from here")
@click.option("--language", type=_language, default="en", show_default=True, help="of its answers")
@click.option("--acknowledge/--silent", default=True, help="answer new tickets by itself (default)")
def add(name: str, mailboxes: tuple[str, ...], **given: Any) -> None:
    """Add the ticket queue NAME."""

    async def work() -> None:
        async with connected(TicketingSettings) as (tx, _):
            given["account"] = await _account(tx, given["account"])
            new = TicketQueue(id=0, name=await _free_name(tx, name, "NAME", 0), **given)
            made = replace(new, id=await store.add_ticket_queue(tx, new, clock.now()))
            for mailbox in mailboxes:
                await _feed(tx, made, mailbox, "--mailbox")

    run(work())
    click.echo(f"ticket queue {name} added")


@ticket_queue.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call it so from now on")
@click.option(
    "--add-mailbox", "added", multiple=True, metavar="MAILBOX", help="feeds it too; repeatable"
)
@click.option(
    "--drop-mailbox", "dropped", multiple=True, metavar="MAILBOX", help="no more; repeatable"
)
@click.option("--account", metavar="ACCOUNT", help="its answers leave from here")
@click.option("--language", type=_language, help="of its answers")
@click.option("--acknowledge/--silent", default=None, help="answer new tickets by itself, or not")
def change(
    name: str, new_name: str | None, added: tuple[str, ...], dropped: tuple[str, ...], **given: Any
) -> None:
    """Change the ticket queue NAME. Its tickets stay."""

    async def work() -> None:
        async with connected(TicketingSettings) as (tx, _):
            old = await queue_named(tx, name)
            changed = {field: value for field, value in given.items() if value is not None}
            if "account" in changed:
                changed["account"] = await _account(tx, changed["account"])
            if new_name is not None:
                changed["name"] = await _free_name(tx, new_name, "--name", old.id)
            await store.change_ticket_queue(tx, replace(old, **changed))
            for mailbox in dropped:
                await _starve(tx, old, mailbox)
            for mailbox in added:
                await _feed(tx, old, mailbox, "--add-mailbox")

    run(work())
    click.echo(f"ticket queue {name} changed")


@ticket_queue.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the ticket queue NAME. It must never have had a ticket."""

    async def work() -> None:
        async with connected(TicketingSettings) as (tx, _):
            old = await queue_named(tx, name)
            if tickets := await store.count_tickets(tx, old):
                remedy = f"has {tickets} tickets; let its mailboxes go instead (--drop-mailbox)"
                raise refuse("NAME", name, remedy)
            await store.remove_ticket_queue(tx, old)

    run(work())
    click.echo(f"ticket queue {name} removed")


@ticket_queue.command("list")
@_json
def list_(json_: bool) -> None:  # noqa: FBT001 -- click passes options so
    """List all ticket queues, by name."""
    found = run(_rows())
    for line in map(as_json, found) if json_ else table(found):
        click.echo(line)


@ticket_queue.command("show")
@click.argument("name")
@_json
def show(name: str, json_: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Show the ticket queue NAME."""
    found = next((row for row in run(_rows()) if row["name"].lower() == name.lower()), None)
    if found is None:
        raise _unknown("NAME", name)
    for line in [as_json(found)] if json_ else fields(found):
        click.echo(line)


async def _rows() -> Sequence[Mapping[str, Any]]:
    async with connected(TicketingSettings) as (tx, _):
        mailboxes = {each.id: each.name for each in await directory.mailboxes(tx)}
        accounts = {each.id: each.name for each in await directory.accounts(tx)}
        queues = await store.ticket_queues(tx)
    return [
        {
            "name": queue.name,
            "mailboxes": sorted(_named(mailboxes, mailbox) for mailbox in fed),
            "account": _named(accounts, queue.account),
            "language": queue.language,
            "acknowledge": queue.acknowledge,
        }
        for queue, fed in queues
    ]


def _named(names: Mapping[UUID, str], id_: UUID) -> str:
    return names.get(id_, f"{id_} (removed)")


async def queue_named(tx: AsyncConnection, name: str, field: str = "NAME") -> TicketQueue:
    """The ticket queue of this name, in any case. Refuses what is not there."""
    for queue, _ in await store.ticket_queues(tx):
        if queue.name.lower() == name.lower():
            return queue
    raise _unknown(field, name)


def _unknown(field: str, name: str) -> Exception:
    return refuse(
        field, name, "there is no such ticket queue; `mailroom ticket-queue list` shows all"
    )


async def _free_name(tx: AsyncConnection, name: str, field: str, own_id: int) -> str:
    stripped = name.strip()
    if not 0 < len(stripped) <= 100 or not stripped.isprintable():
        raise refuse(field, name, "give 1 to 100 printable characters")
    for queue, _ in await store.ticket_queues(tx):
        if queue.name.lower() == stripped.lower() and queue.id != own_id:
            raise refuse(field, name, "this ticket queue is there; take another name")
    return stripped


async def _account(tx: AsyncConnection, name: str) -> UUID:
    found = await directory.account(tx, name)
    if found is None:
        remedy = "there is no such account; `mailroom account list` shows all"
        raise refuse("--account", name, remedy)
    if found.smtp is None:
        remedy = "this account cannot send; `mailroom account change` gives it a server"
        raise refuse("--account", name, remedy)
    return found.id


async def _mailbox(tx: AsyncConnection, name: str, field: str) -> directory.Mailbox:
    for mailbox in await directory.mailboxes(tx):
        if name.lower() in {mailbox.name.lower(), str(mailbox.id)}:
            return mailbox
    raise refuse(field, name, "there is no such mailbox; `mailroom mailbox list` shows all")


async def _feed(tx: AsyncConnection, queue: TicketQueue, name: str, field: str) -> None:
    mailbox = await _mailbox(tx, name, field)
    if mailbox.kind != "central":
        raise refuse(field, name, "is private; only a central mailbox feeds a ticket queue")
    fed = (await store.feeds(tx)).get(mailbox.id)
    if fed is not None:
        raise refuse(field, name, f"feeds the ticket queue {fed.name} already")
    await store.add_feed(tx, mailbox.id, queue.id)


async def _starve(tx: AsyncConnection, queue: TicketQueue, name: str) -> None:
    mailbox = await _mailbox(tx, name, "--drop-mailbox")
    fed = (await store.feeds(tx)).get(mailbox.id)
    if fed is None or fed.id != queue.id:
        raise refuse("--drop-mailbox", name, f"does not feed the ticket queue {queue.name}")
    await store.drop_feed(tx, mailbox.id)
