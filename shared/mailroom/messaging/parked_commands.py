"""`mailroom parked …`: look at what could not be handled, publish it again, or forget it.

Each service's events are read with its own role, by its own settings; an id is <service>:<number>.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click

from mailroom import clock, settings
from mailroom.cli import Refusal, connected, refuse, run
from mailroom.crashpoints import crashpoint
from mailroom.messaging import consume, outbox
from mailroom.messaging import parked as parked_events
from mailroom.messaging.parked import Which
from mailroom.messaging.tables import AnyRow
from mailroom.printing import one_line, visible
from mailroom.service import Service, ServiceUnknown, installed, named

F = TypeVar("F", bound=Callable[..., None])

_OF_MANY_LINES = ("traceback", "body")
_HOW = "give <service>:<number> as `mailroom parked list` prints it"

as_json = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")


def some_of_them(command: F) -> F:
    """Options that choose among parked events."""
    words = "whose reason has these words, in any case; … or * stands for anything"
    command = click.option("--reason", metavar="WORDS", help=words)(command)
    command = click.option("--queue", metavar="QUEUE", help="of one queue: router.mail.received …")(
        command
    )
    services = "only of this service; otherwise of all whose settings are set"
    return click.option("--service", "name", metavar="SERVICE", help=services)(command)


@click.group("parked")
def parked() -> None:
    """Events that could not be handled. Look at them, replay or drop them."""


@parked.command("list")
@some_of_them
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="show at most so many",
)
@click.option("--skip", type=click.IntRange(0), default=0, help="pass over so many of the latest")
@as_json
def list_command(
    name: str | None, queue: str | None, reason: str | None, limit: int, skip: int, *, as_json: bool
) -> None:
    """List parked events, the latest last. Of all services whose settings are set."""
    which = Which(queue, reason)
    found, total = run(_latest(_services(name), which, skip + limit))
    for service, row in found[: max(len(found) - skip, 0)][-limit:]:
        told = _summary(service, row)
        click.echo(json.dumps(told) if as_json else _line(told))
    if (older := total - skip - limit) > 0:
        how = "see --skip and --limit, or `mailroom parked count`"
        click.echo(f"mailroom: {older} older ones are not listed: {how}", err=True)


@parked.command("count")
@some_of_them
@as_json
def count_command(
    name: str | None, queue: str | None, reason: str | None, *, as_json: bool
) -> None:
    """Count parked events by queue and reason. The most come first.

    Reasons that differ in numbers and ids alone are one, with … in their place.
    """
    for service, row in run(_reasons(_services(name), Which(queue, reason))):
        told = {
            "service": service.name,
            "queue": row.queue,
            "reason": row.reason,
            "events": row.events,
            "first_at": row.first_at.isoformat(),
            "last_at": row.last_at.isoformat(),
        }
        queue, words = one_line(row.queue), one_line(row.reason)
        line = f"{row.events:>8}  {queue:<24} {told['last_at'][:19]}  {words}"
        click.echo(json.dumps(told) if as_json else line)


@parked.command("show")
@click.argument("id_", metavar="ID")
@as_json
def show_command(id_: str, *, as_json: bool) -> None:
    """Show one parked event, whole. Why it is, where the code stood, and its bytes."""
    service, number = _parse(id_)
    row = run(_one(service, number))
    told = _summary(service, row) | {"headers": row.headers, "traceback": row.traceback}
    told |= _body(row.body)
    if as_json:
        click.echo(json.dumps(told))
        return
    for field, value in told.items():
        shown = visible if field in _OF_MANY_LINES else one_line
        click.echo(f"{field}: {shown(str(value))}")


@parked.command("replay")
@click.argument("ids", metavar="[ID…]", nargs=-1)
@some_of_them
@click.option(
    "--again",
    is_flag=True,
    help="also what was replayed and has not come back: only if RabbitMQ lost it",
)
def replay_command(
    ids: tuple[str, ...],
    name: str | None,
    queue: str | None,
    reason: str | None,
    *,
    again: bool,
) -> None:
    """Publish parked events to their queues again. Each leaves the list when it is handled.

    Give their ids; or, for many, --service, --queue or --reason: then 200 a second are published,
    so that what is new does not wait behind them.
    """
    _either(ids, name, queue, reason)
    refused: list[Refusal] = []
    for service, number in [_parse(id_) for id_ in ids]:
        try:
            run(_replay(service, number, again=again))
        except Refusal as told:
            # One that was handled meanwhile, or is on its way, keeps no other back.
            refused.append(told)
            continue
        crashpoint("parked.replayed")
        click.echo(f"replayed {service.name}:{number}")
    for each in refused[:-1]:
        click.echo(f"mailroom: {each.format_message()}", err=True)
    if refused:
        raise refused[-1]
    for service in _services(name) if not ids else ():
        run(_replay_some(service, Which(queue, reason, again)))


@parked.command("drop")
@click.argument("ids", metavar="[ID…]", nargs=-1)
@some_of_them
@click.option("--yes", is_flag=True, help="do not ask")
def drop_command(
    ids: tuple[str, ...], name: str | None, queue: str | None, reason: str | None, *, yes: bool
) -> None:
    """Forget parked events, for good. Give their ids, or the options that choose them."""
    _either(ids, name, queue, reason)
    chosen, which = [_parse(id_) for id_ in ids], Which(queue, reason)
    services = [] if ids else _services(name)
    if not yes:
        many = len(ids) or sum(run(_count(each, which)) for each in services)
        click.confirm(f"The bytes of {many} events are gone then. Drop them?", abort=True)
    for service, number in chosen:
        run(_drop(service, number))
    for service in services:
        run(_drop_some(service, which))


def _either(ids: Sequence[str], *options: str | None) -> None:
    if bool(ids) == any(each is not None for each in options):
        given = " ".join(ids) or "none"
        raise refuse("ids", given, "give ids, or one of --service, --queue and --reason")


async def _latest(
    services: Sequence[Service[Any]], which: Which, limit: int
) -> tuple[list[tuple[Service[Any], AnyRow]], int]:
    """The `limit` latest of all services together, and how many there are."""
    found: list[tuple[Service[Any], AnyRow]] = []
    total = 0
    for service in services:
        async with connected(service.settings) as (tx, _):
            rows = await parked_events.latest(tx, service.messaging, which, limit)
            total += await parked_events.count(tx, service.messaging, which)
        found += [(service, row) for row in rows]
    return sorted(found, key=lambda each: each[1].last_at)[-limit:], total


async def _reasons(
    services: Sequence[Service[Any]], which: Which
) -> list[tuple[Service[Any], AnyRow]]:
    found: list[tuple[Service[Any], AnyRow]] = []
    for service in services:
        async with connected(service.settings) as (tx, _):
            rows = await parked_events.reasons(tx, service.messaging, which)
        found += [(service, row) for row in rows]
    return sorted(found, key=lambda each: -each[1].events)


async def _one(service: Service[Any], number: int) -> AnyRow:
    async with _told(service), connected(service.settings) as (tx, _):
        return await parked_events.show(tx, service.messaging, number)


async def _replay(service: Service[Any], number: int, *, again: bool) -> None:
    async with _told(service), connected(service.settings) as (tx, _):
        row = await parked_events.show(tx, service.messaging, number)
        if row.queue not in consume.queues(service):
            remedy = f"{service.name} has no such queue: publish its bytes anew, or drop it"
            raise refuse("queue", row.queue, remedy)
        await parked_events.replay(
            tx, service.messaging, service.name, number, clock.now(), again=again
        )


async def _replay_some(service: Service[Any], wanted: Which) -> None:
    """In short transactions, each a while later than the one before."""
    which = replace(wanted, among=consume.queues(service))
    chosen, done, after, moment = await _count(service, which), 0, 0, clock.now()
    while True:
        due = outbox.last_due(moment, done + 1)
        async with connected(service.settings) as (tx, _):
            ids = await parked_events.replay_some(
                tx, service.messaging, service.name, which, after, due
            )
        if not ids:
            break
        done, after = done + len(ids), ids[-1]
    if chosen:
        last = outbox.last_due(moment, done)
        late = f"; the last is published at {last:%H:%M:%S} UTC" if done > outbox.A_SECOND else ""
        rest = "" if done >= chosen else f"; {chosen - done} are on their way already"
        click.echo(f"replayed {done} of {service.name}{late}{rest}")
    if left := await _count_homeless(service, wanted):
        remedy = "publish their bytes anew, or drop them"
        click.echo(f"left {left} of {service.name}, of queues that it does not have: {remedy}")


async def _count_homeless(service: Service[Any], which: Which) -> int:
    """Those whose queue the service does not have. Of the others, some may be handled meanwhile."""
    queues = consume.queues(service)
    async with connected(service.settings) as (tx, _):
        counted = await parked_events.reasons(tx, service.messaging, which)
    return sum(row.events for row in counted if row.queue not in queues)


async def _drop(service: Service[Any], number: int) -> None:
    async with _told(service), connected(service.settings) as (tx, _):
        replayed_at = await parked_events.drop(tx, service.messaging, number)
    note = ", but its replay is on its way, and may be handled all the same" if replayed_at else ""
    click.echo(f"dropped {service.name}:{number}{note}")


async def _drop_some(service: Service[Any], which: Which) -> None:
    done = 0
    while True:
        async with connected(service.settings) as (tx, _):
            gone = await parked_events.drop_some(tx, service.messaging, which)
        if not gone:
            break
        done += gone
    if done:
        click.echo(f"dropped {done} of {service.name}")


async def _count(service: Service[Any], which: Which) -> int:
    async with connected(service.settings) as (tx, _):
        return await parked_events.count(tx, service.messaging, which)


@asynccontextmanager
async def _told(service: Service[Any]) -> AsyncIterator[None]:
    """A person's mistake, or another person's deed a moment before, in one line."""
    try:
        yield
    except parked_events.NotParked as missing:
        remedy = "it was handled meanwhile, dropped, or never there"
        raise refuse(
            "id", f"{service.name}:{missing.id}", f"no such parked event: {remedy}"
        ) from None
    except parked_events.OnItsWay as twice:
        since = f"{twice.replayed_at:%Y-%m-%d %H:%M:%S} UTC"
        remedy = "wait for it; if RabbitMQ has lost it, --again publishes it once more"
        raise refuse(
            "id",
            f"{service.name}:{twice.id}",
            f"was replayed at {since}, and is on its way: {remedy}",
        ) from None


def _services(name: str | None) -> list[Service[Any]]:
    """The one, or all whose settings are set; which are left out is told."""
    if name:
        return [_service(name)]
    services = []
    for service in installed().values():
        try:
            settings.load(service.settings)
        except settings.SettingsRefused as refused:
            click.echo(f"mailroom: {service.name} left out: {refused}", err=True)
        else:
            services.append(service)
    return services


def _parse(id_: str) -> tuple[Service[Any], int]:
    name, colon, number = id_.partition(":")
    # PostgreSQL's bigint is the largest that there can be.
    if not colon or not number.isascii() or not number.isdigit() or int(number) >= 2**63:
        raise refuse("id", id_, _HOW)
    return _service(name), int(number)


def _service(name: str) -> Service[Any]:
    try:
        return named([name])[0]
    except ServiceUnknown as unknown:
        raise Refusal(str(unknown)) from None


def _summary(service: Service[Any], row: AnyRow) -> dict[str, Any]:
    return {
        "id": f"{service.name}:{row.id}",
        "queue": row.queue,
        "type": row.type,
        "event_id": row.event_id,
        "correlation_id": row.correlation_id,
        "publisher": row.publisher,
        "tries": row.tries,
        "first_at": row.first_at.isoformat(),
        "last_at": row.last_at.isoformat(),
        "replayed_at": row.replayed_at and row.replayed_at.isoformat(),
        "reason": row.reason,
    }


def _line(told: dict[str, Any]) -> str:
    replayed = "  (replayed)" if told["replayed_at"] else ""
    type_, reason = one_line(told["type"]), one_line(told["reason"])
    return f"{told['id']:<16} {told['last_at'][:19]}  {type_:<16} {reason}{replayed}"


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
