"""`mailroom sent`: what became of requests, and the word of a person on those that are held.

Invariant: a mail that may have left is sent again by this command's `release` alone, once for each
time that it is given.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import click
from sqlalchemy import cast as sql_cast
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from mailroom import clock, directory
from mailroom.cli import connected, refuse, run
from mailroom.messaging import outbox
from mailroom.printing import one_line
from mailroom_sender import loading, outcomes, store
from mailroom_sender.outcomes import State, Word
from mailroom_sender.requests import Request
from mailroom_sender.settings import SenderSettings
from mailroom_sender.settling import apply
from mailroom_sender.tables import attempts, copies, rejections, requests
from mailroom_sender.waking import wake

Row = Mapping[str, Any]


@click.group()
def sent() -> None:
    """Mails that were asked for. What became of each, and what is held."""


@sent.command("list")
@click.option("--state", type=click.Choice(get_args(State)), help="in this state alone")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="at most so many"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def list_(state: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001 -- click passes options so
    """List requests, the newest first."""
    for row in run(_listed(state, limit)):
        click.echo(_json(row) if as_json else _line(row))


@sent.command("show")
@click.argument("mail", metavar="MAIL|KEY")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def show(mail: str, as_json: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Show one request. By mail id or idempotency key: each recipient, each try, its copy."""
    shown = run(_one(mail))
    if as_json:
        click.echo(_json(shown))
        return
    for name, value in shown.items():
        if isinstance(value, list):
            for row in value:
                told = "  ".join(f"{key}={_shown(one)}" for key, one in row.items() if one)
                click.echo(f"{name}  {told}")
        elif value is not None:
            click.echo(f"{name}  {_shown(value)}")


@sent.command("rejected")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="at most so many"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def rejected(limit: int, as_json: bool) -> None:  # noqa: FBT001 -- click passes options so
    """List requests that were wrong. The newest come first, with each wrong field."""
    for row in run(_rejected(limit)):
        if as_json:
            click.echo(_json(row))
            continue
        at = f"{row['rejected_at']:%Y-%m-%d %H:%M:%S}"
        by = f"{one_line(row['publisher'])}  {one_line(row['idempotency_key'] or '')}"
        click.echo(f"{at}  {by}  {wrong_fields(row['errors'])}")


@sent.command("release")
@click.argument("mail", metavar="MAIL|KEY")
@click.argument("word", type=click.Choice(get_args(Word)))
def release(mail: str, word: Word) -> None:
    """End the hold of an unknown mail. Nobody knows whether it left.

    `again` sends it once more, with the same Message-ID. `arrived` takes it for sent, and `dropped`
    for lost: neither sends anything to those recipients. Whom the server refused for now is tried
    on. Look into the recipient's mailbox, or ask him, first.
    """
    run(_release(mail, word))
    click.echo(f"{mail} {word}")


async def _listed(state: str | None, limit: int) -> Sequence[Row]:
    query = (
        select(
            requests.c.accepted_at,
            requests.c.state,
            requests.c.mail,
            requests.c.publisher,
            requests.c.idempotency_key,
            requests.c.account,
            requests.c.subject,
            requests.c.due,
            copies.c.state.label("copy"),
        )
        .outerjoin(copies, copies.c.mail == requests.c.mail)
        .order_by(requests.c.accepted_at.desc())
        .limit(limit)
    )
    if state is not None:
        query = query.where(requests.c.state == state)
    async with connected(SenderSettings) as (tx, _):
        names = {account.id: account.name for account in await directory.accounts(tx)}
        rows = (await tx.execute(query)).mappings().all()
    return [{**row, "account": names.get(row["account"], str(row["account"]))} for row in rows]


async def _one(mail: str) -> dict[str, Any]:
    async with connected(SenderSettings) as (tx, _):
        request = await _found(tx, mail)
        tries = await tx.execute(
            select(
                attempts.c.number,
                attempts.c.started_at,
                attempts.c.ended_at,
                attempts.c.outcome,
                attempts.c.reply,
            )
            .where(attempts.c.mail == request.mail)
            .order_by(attempts.c.number)
        )
        copy = await tx.execute(
            select(copies.c.state, copies.c.folder, copies.c.uid, copies.c.problem).where(
                copies.c.mail == request.mail
            )
        )
        return {
            "mail": request.mail,
            "state": request.state,
            "publisher": request.publisher,
            "idempotency_key": request.idempotency_key,
            "message_id": request.message_id,
            "subject": request.subject,
            "accepted_at": request.accepted_at,
            "due": request.due,
            "sent_at": request.sent_at,
            "recipient": [vars(target) for target in request.targets],
            "try": [dict(row) for row in tries.mappings()],
            "copy": [dict(row) for row in copy.mappings()],
        }


async def _rejected(limit: int) -> Sequence[Row]:
    query = select(rejections).order_by(rejections.c.id.desc()).limit(limit)
    async with connected(SenderSettings) as (tx, _):
        return [dict(row) for row in (await tx.execute(query)).mappings()]


async def _release(mail: str, word: Word) -> None:
    async with connected(SenderSettings) as (tx, _):
        request = await _found(tx, mail)
        locked = await loading.get(tx, request.mail)
        if locked is None or locked.state != "unknown":
            state = locked.state if locked else "gone"
            raise refuse(
                "MAIL", mail, f"is not held: it is {state}; `mailroom sent list` shows them"
            )
        now = clock.now()
        if word == "again":
            await _refuse_what_would_not_be_sent(tx, locked, now)
        verdict = outcomes.release(locked.before, word, now)
        events = await apply(tx, locked, verdict, "taken for arrived by a person")
        await outbox.add(tx, store.messaging, events)
        await wake(tx)


async def _refuse_what_would_not_be_sent(tx: AsyncConnection, held: Request, now: datetime) -> None:
    """It would be held again at once, with another `mail.failed`."""
    remedy = "it would not be sent; say `arrived` or `dropped`, or ask for it anew by another key"
    if held.expires_at is not None and held.expires_at <= now:
        why = f"the mail expired at {held.expires_at.isoformat()}"
        raise refuse("WORD", "again", f"{why}, and {remedy}")
    if await directory.account(tx, str(held.account)) is None:
        raise refuse("WORD", "again", f"its account was removed, and {remedy}")


async def _found(tx: AsyncConnection, mail: str) -> Request:
    wanted = or_(
        sql_cast(requests.c.mail, Text) == mail.lower(), requests.c.idempotency_key == mail
    )
    ids = (await tx.scalars(select(requests.c.mail).where(wanted).limit(2))).all()
    if len(ids) > 1:
        raise refuse("MAIL", mail, "several publishers used this key; give the mail's id")
    if not ids:
        raise refuse("MAIL", mail, "no such mail id or key; `mailroom sent list` shows them")
    return (await loading.by_mails(tx, ids))[0]


def _line(row: Row) -> str:
    at = f"{row['accepted_at']:%Y-%m-%d %H:%M:%S}"
    state = "filed" if row["copy"] == "filed" and row["state"] == "sent" else row["state"]
    return (
        f"{at}  {state:<9}  {row['mail']}  {row['publisher']}  {row['account']}"
        f"  {one_line(row['idempotency_key'])}  {one_line(row['subject'])}"
    )


def wrong_fields(errors: Sequence[Mapping[str, str]]) -> str:
    """The errors of a rejection in one line, fit for a terminal."""
    return one_line("; ".join(f"{e['field']} '{e['value']}': {e['remedy']}" for e in errors))


def _json(row: Row) -> str:
    return json.dumps(dict(row), default=_plain)


def _shown(value: object) -> str:
    return one_line(_plain(value))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
