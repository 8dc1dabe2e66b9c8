"""`mailroom ticket …`: lists tickets, shows dialogues, answers, closes.

Invariant: a reply is a row and a `mail.send` in one transaction. What is printed afterwards is what
will happen; pressing twice with the same key sends once.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, directory, mime, objects
from mailroom.cli import connected, refuse, run
from mailroom.contracts import INLINE_LIMIT, Address, Answers, MailSend
from mailroom.messaging import outbox
from mailroom.messaging.envelope import Outgoing
from mailroom.printing import as_json, one_line, table
from mailroom.settings import CommonSettings, load
from mailroom_ticketing import loading, printing, store
from mailroom_ticketing.composing import Request, reply
from mailroom_ticketing.dialogue import Dialogue, dialogue, listed
from mailroom_ticketing.known import Ticket
from mailroom_ticketing.mails import normal
from mailroom_ticketing.queue_commands import queue_named, ticket_queue
from mailroom_ticketing.settings import TicketingSettings
from mailroom_ticketing.tags import sign

__all__ = ["ticket", "ticket_queue"]

_STATES = click.Choice(["new", "open", "waiting", "closed"])
_NUMBER = re.compile(r"\[?#?([1-9][0-9]{0,14})(-[0-9a-zA-Z]+)?\]?")
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\\]{1,64}@[^\s@<>,;:\"()\\]{1,189}")


@click.group()
def ticket() -> None:
    """Dialogues with customers. What they wrote, what was answered, and what became of it."""


@ticket.command("list")
@click.option("--queue", metavar="NAME", help="of this ticket queue alone")
@click.option("--state", type=_STATES, help="in this state alone")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="at most so many",
)
@click.option("--json", "json_", is_flag=True, help="one JSON object a line")
def list_(queue: str | None, state: str | None, limit: int, json_: bool) -> None:  # noqa: FBT001 -- click passes options so
    """List tickets, the newest first."""

    async def work() -> Sequence[Mapping[str, object]]:
        async with connected(TicketingSettings) as (tx, _):
            queue_id = (await queue_named(tx, queue, "--queue")).id if queue is not None else None
            rows = await listed(tx, queue_id=queue_id, state=state, limit=limit)
        return [printing.ticket_row(row) for row in rows]

    found = run(work())
    for line in map(as_json, found) if json_ else table(found):
        click.echo(line)


@ticket.command("show")
@click.argument("number")
@click.option("--json", "json_", is_flag=True, help="one JSON object")
def show(number: str, json_: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Show the whole dialogue of ticket NUMBER. Mails, why they are here, what became of ours."""

    async def work() -> tuple[Dialogue, str, Mapping[str, str]]:
        async with connected(TicketingSettings) as (tx, settings):
            found = await _ticket(tx, number)
            shown = await dialogue(tx, found)
        return shown, sign(settings.ring, found.number), await _texts(shown)

    shown = run(work())
    for line in [printing.dialogue_json(*shown)] if json_ else printing.dialogue_lines(*shown):
        click.echo(line)


async def _texts(shown: Dialogue) -> Mapping[str, str]:
    objects_of = objects.open_store(load(CommonSettings).objects)
    texts = {}
    for raw in {each.raw for each in shown.entries if each.raw}:
        try:
            texts[raw] = mime.read(await objects.get(objects_of, raw)).text
        except objects.ObjectFault as fault:
            texts[raw] = f"({fault})"
    return texts


@ticket.command("reply")
@click.argument("number")
@click.option("--file", type=click.Path(path_type=Path), help="the text; else standard input")
@click.option(
    "--cc", multiple=True, metavar="ADDRESS", help="gets a copy, and takes part; repeatable"
)
@click.option("--key", metavar="KEY", help="the same key never sends twice; else made of the reply")
def reply_(number: str, file: Path | None, cc: tuple[str, ...], key: str | None) -> None:
    """Answer the customer of ticket NUMBER. Text from a file, standard input or an editor."""
    text = _written(file)
    copies = [_address(each) for each in cc]
    if key is not None and not 0 < len(key) <= 100:
        raise refuse("--key", key, "give 1 to 100 characters")

    async def work() -> tuple[MailSend, bool]:
        async with connected(TicketingSettings) as (tx, settings):
            found = await _ticket(tx, number)
            await _check(tx, found)
            answers, cause = await _newest(tx, found)
            send = reply(found, text, copies, answers, settings.ring, key)
            return send, await _ask(tx, found, send, cause)

    send, is_new = run(work())
    people = one_line(", ".join(each.address for each in send.to + send.cc))
    said = "will be sent to" if is_new else "was asked for before and is sent once, to"
    here = send.record.id if send.record else number
    click.echo(f"ticket {here}: reply {said} {people} (key {send.idempotency_key})")
    click.echo(f"what becomes of it: mailroom ticket show {here}")


async def _newest(tx: AsyncConnection, found: Ticket) -> tuple[Answers | None, str]:
    """The customer's newest mail, which a reply answers, and its correlation id."""
    newest = await store.newest_incoming(tx, found.number)
    if newest is None:
        return None, str(uuid4())
    references = tuple(newest["references"])
    answers = Answers(mail=newest["mail"], message_id=newest["message_id"], references=references)
    return answers, newest["correlation_id"]


async def _check(tx: AsyncConnection, found: Ticket) -> None:
    if found.customer is None or not _ADDRESS.fullmatch(found.customer.address):
        whom = found.customer.address if found.customer else ""
        raise refuse("customer", whom, f"ticket {found.number} has no address to answer to")
    queue = found.queue
    account = await directory.account(tx, str(queue.account))
    if account is None:
        remedy = "is gone; give another: mailroom ticket-queue change NAME --account ACCOUNT"
        raise refuse("account", f"{queue.account} of {queue.name}", remedy)
    if not account.enabled:
        remedy = f"is disabled; `mailroom account change {account.name} --enabled`"
        raise refuse("account", f"{account.name} of {queue.name}", remedy)
    if account.smtp is None:
        remedy = f"cannot send; `mailroom account change {account.name} --smtp URL`"
        raise refuse("account", f"{account.name} of {queue.name}", remedy)


async def _ask(tx: AsyncConnection, found: Ticket, send: MailSend, correlation_id: str) -> bool:
    """Write request and command; false when this key asked for the same, and it leaves or left."""
    correspondent = normal(send.to[0].address)
    asked = Request(send, "reply", found, correspondent, correlation_id, clock.now())
    before = await store.request_of(tx, send.idempotency_key)
    if before is None:
        await store.add_requests(tx, [asked])
    elif await _may_ask_again(tx, before, send):
        await store.renew_request(tx, asked)
    else:
        return False
    await outbox.add(tx, store.messaging, [Outgoing(send, correlation_id)])
    return True


async def _may_ask_again(tx: AsyncConnection, before: MailSend, send: MailSend) -> bool:
    """Only what was rejected: of that the sender has kept nothing, and takes its key again."""
    key = send.idempotency_key
    if (before.record, before.to, before.cc, before.text) != (
        send.record,
        send.to,
        send.cc,
        send.text,
    ):
        raise refuse("--key", key, "was used for another reply; give a new one")
    became = await store.outcomes_of(tx, key)
    if "sent" in became or "filed" in became:
        return False
    if "failed" in became:
        remedy = "to send it all the same, give another with --key"
        raise refuse("--key", key, f"failed: {one_line(became['failed'])}; {remedy}")
    return "rejected" in became


def _written(file: Path | None) -> str:
    if file is not None:
        where, text = f"--file {file}", _decoded(str(file), _bytes_of(file))
    elif sys.stdin.isatty():
        where, text = "the editor", click.edit() or ""
    else:
        where, text = "standard input", _decoded("standard input", sys.stdin.buffer.read())
    if not text.strip():
        raise refuse("text", text, f"{where} is empty; nothing was sent")
    if len(text) > INLINE_LIMIT:
        raise refuse("text", f"{text[:20]}…", f"{where} has over {INLINE_LIMIT} characters")
    return text


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as unreadable:
        raise refuse("--file", file, f"cannot be read: {unreadable.strerror}") from None


def _decoded(where: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as wrong:
        raise refuse("text", where, f"is not UTF-8 at byte {wrong.start}; convert it") from None


def _address(given: str) -> Address:
    if not _ADDRESS.fullmatch(given):
        raise refuse("--cc", given, "is no address; give one as kim@customer.example")
    return Address(address=given)


@ticket.command("close")
@click.argument("number")
def close(number: str) -> None:
    """Close ticket NUMBER. A mail from the customer opens it again."""

    async def work() -> tuple[int, bool]:
        async with connected(TicketingSettings) as (tx, _):
            found = await _ticket(tx, number)
            return found.number, await store.close(tx, found.number, clock.now())

    here, closed = run(work())
    click.echo(f"ticket {here} {'closed' if closed else 'was closed before'}")


async def _ticket(tx: AsyncConnection, given: str) -> Ticket:
    digits = _NUMBER.fullmatch(given)
    number = int(digits[1]) if digits else 0
    found = (await loading.tickets(tx, {number})).get(number)
    if found is None:
        remedy = "there is no such ticket; `mailroom ticket list` shows all"
        raise refuse("NUMBER", given, remedy)
    return found
