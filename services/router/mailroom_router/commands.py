"""`mailroom rule …`: the rules that decide a mail's mailbox, and a trial of what they decide.

Invariant: what is written here can be asked of every mail: names exist in the directory when a rule
is written, and a rule that could not be is refused with field, value and remedy.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, mime
from mailroom.cli import connected, refuse, run
from mailroom_router import store
from mailroom_router.routing import BUILT_IN, Atlas, decide
from mailroom_router.rules import Rule, RuleRefused, check, evidence
from mailroom_router.settings import RouterSettings

STEP = 10
"""Room between positions, so that a rule fits between two others."""


@click.group()
def rule() -> None:
    """Rules decide which mailbox a mail goes to.

    They are asked by position. A pattern stands for the whole value in any case: * is any
    characters, ? is one. All conditions of a rule must hold. A rule that stops is the last to be
    asked; one that does not only proposes, and a later rule that fits overrules it.
    """


def _conditions(command: Any) -> Any:
    options = [
        click.option("--account", metavar="ACCOUNT", help="the mail came through this account"),
        click.option(
            "--from", "from_pattern", metavar="PATTERN", help="pattern of the sender's address"
        ),
        click.option(
            "--to",
            "to_pattern",
            metavar="PATTERN",
            help="pattern of an address it is for (also Cc)",
        ),
        click.option(
            "--subject", "subject_pattern", metavar="PATTERN", help="pattern of the subject"
        ),
        click.option("--header", metavar="FIELD", help="'Name: pattern' of any header field"),
        click.option(
            "--position", type=click.IntRange(0, 1_000_000), help="lower is asked earlier"
        ),
        click.option("--stop/--propose", default=None, help="stop (default), or only propose"),
        click.option(
            "--enabled/--disabled", default=None, help="ask it (default), or pass it over"
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@rule.command("add")
@click.argument("name")
@click.option("--mailbox", required=True, metavar="MAILBOX", help="where the mail goes")
@_conditions
def add(name: str, **given: Any) -> None:
    """Add the rule NAME. It stands behind all others unless --position says where."""

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            if await store.rule_named(tx, name):
                raise refuse("NAME", name, "this rule is there; `mailroom rule change` changes it")
            last = max((one.position for one in await store.rules(tx)), default=0)
            new = Rule(id=uuid4(), name=name, position=last + STEP, mailbox=UUID(int=0))
            await _write(tx, new, given)

    run(work())


@rule.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call it so from now on")
@click.option("--mailbox", metavar="MAILBOX", help="where the mail goes")
@_conditions
def change(name: str, new_name: str | None, **given: Any) -> None:
    """Change the rule NAME. An empty condition (--subject '') is taken away."""

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            old = await _named(tx, name)
            taken = await store.rule_named(tx, new_name) if new_name else None
            if taken and taken.id != old.id:
                raise refuse("--name", new_name, "another rule has this name; take another")
            await _write(tx, replace(old, name=new_name or old.name), given)

    run(work())


@rule.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the rule NAME; what it decided stays."""

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            await store.remove_rule(tx, await _named(tx, name))

    run(work())


@rule.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def list_(as_json: bool) -> None:  # noqa: FBT001 -- click passes options so
    """List all rules, in the order of asking."""

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            world = await store.world(tx)
        for one in world.rules:
            click.echo(json.dumps(_plain(one, world)) if as_json else _line(one, world))

    run(work())


@rule.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show the rule NAME."""

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            one, world = await _named(tx, name), await store.world(tx)
        for field, value in _plain(one, world).items():
            click.echo(f"{field:<15} {value}")

    run(work())


@rule.command("test")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--account",
    required=True,
    metavar="ACCOUNT",
    help="as if the mail came through this account",
)
@click.option("--sent", is_flag=True, help="as if it lay in the account's Sent folder")
def test(file: Path, account: str, sent: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Say where the mail in FILE would go. Says why, and stores nothing."""

    mail = mime.read(file.read_bytes())

    async def work() -> None:
        async with connected(RouterSettings) as (tx, _):
            world = await store.world(tx)
        account_id = _account(account, world)
        for one in world.rules:
            found = evidence(one, mail, account_id) if one.enabled else None
            fits = "; ".join(found) if found is not None else "does not fit"
            click.echo(f"{_title(one)}: {fits}")
        decision = decide(mail, account_id, "out" if sent else "in", world)
        click.echo(f"mailbox: {decision.mailbox.name}")
        click.echo(f"by: {decision.rule}")
        click.echo(f"because: {decision.reason}")

    run(work())


async def _named(tx: AsyncConnection, name: str) -> Rule:
    found = await store.rule_named(tx, name)
    if found is None:
        raise refuse("NAME", name, "there is no such rule; `mailroom rule list` shows all")
    return found


async def _write(tx: AsyncConnection, old: Rule, given: dict[str, Any]) -> None:
    world = await store.world(tx)
    changed: dict[str, Any] = {
        field: given[field] or None
        for field in ("from_pattern", "to_pattern", "subject_pattern")
        if given[field] is not None
    }
    changed |= {
        field: given[field] for field in ("position", "stop", "enabled") if given[field] is not None
    }
    if given["account"] is not None:
        changed["account"] = _account(given["account"], world) if given["account"] else None
    if given["mailbox"] is not None:
        changed["mailbox"] = _mailbox(given["mailbox"], world)
    if given["header"] is not None:
        changed |= _header(given["header"])
    try:
        new = check(replace(old, **changed), BUILT_IN.values())
    except RuleRefused as refused:
        raise refuse(refused.field, refused.value, refused.remedy) from None
    await store.write_rule(tx, new, clock.now())


def _header(given: str) -> dict[str, str | None]:
    if not given:
        return {"header_name": None, "header_pattern": None}
    name, colon, pattern = given.partition(":")
    if not colon:
        raise refuse("--header", given, "give 'Name: pattern', as 'List-Id: *dev*'")
    return {"header_name": name.strip(), "header_pattern": pattern.strip()}


def _account(name: str, world: Atlas) -> UUID:
    for account in world.accounts.values():
        if name.lower() in {account.name.lower(), str(account.id)}:
            return account.id
    raise refuse("--account", name, "there is no such account; `mailroom account list` shows all")


def _mailbox(name: str, world: Atlas) -> UUID:
    for mailbox in world.mailboxes.values():
        if name.lower() in {mailbox.name.lower(), str(mailbox.id)}:
            return mailbox.id
    raise refuse("--mailbox", name, "there is no such mailbox; `mailroom mailbox list` shows all")


def _plain(one: Rule, world: Atlas) -> dict[str, Any]:
    """A rule for a person: names for ids, and only the conditions that it has."""
    mailbox = world.mailboxes.get(one.mailbox)
    account = world.accounts.get(one.account) if one.account else None
    shown = asdict(one) | {
        "id": str(one.id),
        "mailbox": mailbox.name if mailbox else f"{one.mailbox} (removed: the rule is passed over)",
        "account": account.name if account else one.account and f"{one.account} (removed)",
    }
    return {field: value for field, value in shown.items() if value is not None}


def _title(one: Rule) -> str:
    return f"{one.position:>7}  {one.name}"


def _line(one: Rule, world: Atlas) -> str:
    plain = _plain(one, world)
    header = f"{one.header_name}: {one.header_pattern}" if one.header_name else None
    conditions = {
        "account": plain.get("account"),
        "from": one.from_pattern,
        "to": one.to_pattern,
        "subject": one.subject_pattern,
        "header": header,
    }
    asked = ", ".join(f"{field} {value!r}" for field, value in conditions.items() if value)
    notes = [note for note, on in (("proposes", not one.stop), ("disabled", not one.enabled)) if on]
    end = f"  ({', '.join(notes)})" if notes else ""
    return f"{_title(one)}: {asked} -> {plain['mailbox']}{end}"
