"""`mailroom parked …`: look at what could not be handled, publish it again, or forget it.

Each service's events are read with its own role, by its own settings; an id is <service>:<number>.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import click

from mailroom import clock
from mailroom.cli import Refusal, connected, refuse, run
from mailroom.crashpoints import crashpoint
from mailroom.messaging import parked as parked_events
from mailroom.messaging.tables import AnyRow
from mailroom.service import Service, ServiceUnknown, installed, named
from mailroom.settings import SettingsRefused

_HOW = "give <service>:<number> as `mailroom parked list` prints it"

as_json = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")


@click.group("parked")
def parked() -> None:
    """Events that could not be handled: look at them, replay or drop them."""


@parked.command("list")
@click.option("--service", "name", help="of one service; without it, of all whose settings are set")
@as_json
def list_command(name: str | None, *, as_json: bool) -> None:
    """List parked events, the latest last."""
    services = [_service(name)] if name else list(installed().values())
    for service, row in run(_all(services, must=name is not None)):
        told = _summary(service, row)
        click.echo(json.dumps(told) if as_json else _line(told))


@parked.command("show")
@click.argument("id_", metavar="ID")
@as_json
def show_command(id_: str, *, as_json: bool) -> None:
    """Show one parked event, whole: why, where the code stood, and its bytes."""
    service, number = _parse(id_)
    row = run(_show(service, number))
    if row is None:
        raise _missing(id_)
    told = _summary(service, row) | {"headers": row.headers, "traceback": row.traceback}
    told |= _body(row.body)
    if as_json:
        click.echo(json.dumps(told))
        return
    for field, value in told.items():
        click.echo(f"{field}: {value}")


@parked.command("replay")
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
def replay_command(ids: tuple[str, ...]) -> None:
    """Publish parked events to their queues again. Each leaves the list when it is handled."""
    for id_ in ids:
        service, number = _parse(id_)
        if not run(_replay(service, number)):
            raise _missing(id_)
        crashpoint("parked.replayed")
        click.echo(f"replayed {id_}")


@parked.command("drop")
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@click.confirmation_option(prompt="Their bytes are gone then. Drop them?")
def drop_command(ids: tuple[str, ...]) -> None:
    """Forget parked events, for good."""
    for id_ in ids:
        service, number = _parse(id_)
        if not run(_drop(service, number)):
            raise _missing(id_)
        click.echo(f"dropped {id_}")


async def _all(
    services: Sequence[Service[Any]], *, must: bool
) -> list[tuple[Service[Any], AnyRow]]:
    found: list[tuple[Service[Any], AnyRow]] = []
    for service in services:
        try:
            async with connected(service.settings) as (tx, _):
                rows = await parked_events.list_all(tx, service.messaging)
        except SettingsRefused as refused:
            if must:
                raise
            click.echo(f"mailroom: {service.name} left out: {refused}", err=True)
        else:
            found += [(service, row) for row in rows]
    return sorted(found, key=lambda each: each[1].last_at)


async def _show(service: Service[Any], number: int) -> AnyRow | None:
    async with connected(service.settings) as (tx, _):
        return await parked_events.show(tx, service.messaging, number)


async def _replay(service: Service[Any], number: int) -> bool:
    async with connected(service.settings) as (tx, _):
        moment = clock.now()
        return await parked_events.replay(tx, service.messaging, service.name, number, moment)


async def _drop(service: Service[Any], number: int) -> bool:
    async with connected(service.settings) as (tx, _):
        return await parked_events.drop(tx, service.messaging, number)


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


def _missing(id_: str) -> Refusal:
    return refuse("id", id_, f"no such parked event; {_HOW}")


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
    reason = " ".join(str(told["reason"]).split())
    return f"{told['id']:<16} {told['last_at'][:19]}  {told['type']:<16} {reason}{replayed}"


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
