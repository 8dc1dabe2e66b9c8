"""`mailroom objects check`: are all the bytes there that the services refer to, and the right ones?

Invariant: it reads, and removes nothing. With --repair what is damaged is had again by the service
that wrote it, where that can be; what cannot is named with the reason.
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import click

from mailroom import objects, settings
from mailroom.cli import connected, refuse, run
from mailroom.service import Service, Writes, installed

AT_ONCE = 64
"""Objects that are read at a time; a piece of each is in memory."""
TOGETHER = 100
"""Objects that are repaired, and told of, at a time: a store may have lost all that it had."""


@click.group("objects")
def objects_() -> None:
    """The bytes of mails, in the object store."""


@objects_.command("check")
@click.option(
    "--service",
    "name",
    metavar="SERVICE",
    help="what one service wrote; else all whose settings are set",
)
@click.option("--repair", is_flag=True, help="have what is damaged brought or made again")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a damaged one")
def check_command(name: str | None, *, repair: bool, as_json: bool) -> None:
    """Find damaged objects. Reads every object that a service refers to.

    The exit code is 1 if there are any. The store and the databases are read whole: give it a quiet
    hour.
    """
    store = objects.open_store(settings.load(settings.CommonSettings).objects)
    checked, damaged = 0, set[str]()
    for service, writes in _writing(name):
        count, found = run(_check(service, writes, store))
        # A mail that we sent is also one that the fetcher found in Sent, and brings again.
        faults = {sha256: fault for sha256, fault in found.items() if sha256 not in damaged}
        for some in _portions(faults):
            done = run(_mend(service, writes, store, some)) if repair else {}
            for sha256, fault in some.items():
                told = {"service": service.name, "object": sha256, "fault": fault.kind}
                told |= {"problem": str(fault), "repair": done.get(sha256, "")}
                click.echo(json.dumps(told) if as_json else _line(told))
        checked, damaged = checked + count, damaged | faults.keys()
    click.echo(f"{checked} objects checked, {len(damaged)} damaged", err=as_json)
    if damaged:
        sys.exit(1)


def _portions(
    faults: Mapping[str, objects.ObjectFault],
) -> Iterator[Mapping[str, objects.ObjectFault]]:
    rest = iter(faults.items())
    while some := dict(islice(rest, TOGETHER)):
        yield some


def _line(told: Mapping[str, str]) -> str:
    repair = f": {told['repair']}" if told["repair"] else ""
    return f"{told['fault']:<10} {told['object']}  {told['service']}{repair}"


def _writing(name: str | None) -> list[tuple[Service[Any], Writes]]:
    """The services that write objects; who is left out for want of settings is told."""
    all_ = {each.name: (each, each.writes) for each in installed().values() if each.writes}
    if name is not None:
        if name not in all_:
            raise refuse("--service", name, f"give one of {', '.join(sorted(all_))}")
        return [all_[name]]
    found = []
    for service, writes in all_.values():
        try:
            settings.load(service.settings)
        except settings.SettingsRefused as refused:
            click.echo(f"mailroom: {service.name} left out: {refused}", err=True)
        else:
            found.append((service, writes))
    return found


async def _check(
    service: Service[Any], writes: Writes, store: objects.ObjectStore
) -> tuple[int, dict[str, objects.ObjectFault]]:
    """How many were read, and what is wrong, by SHA-256."""
    count = 0
    faults: dict[str, objects.ObjectFault] = {}
    hashes_of = writes.hashes.execution_options(yield_per=AT_ONCE)
    async with connected(service.settings) as (tx, _):
        rows = await tx.stream_scalars(hashes_of)
        async for hashes in rows.partitions():
            found = await asyncio.gather(*(objects.fault_of(store, each) for each in hashes))
            faults |= {fault.sha256: fault for fault in found if fault is not None}
            count += len(hashes)
    return count, faults


async def _mend(
    service: Service[Any],
    writes: Writes,
    store: objects.ObjectStore,
    faults: Mapping[str, objects.ObjectFault],
) -> Mapping[str, str]:
    """What becomes of each."""
    if writes.mend is None:
        return dict.fromkeys(faults, f"{service.name} cannot make it again: restore a backup")
    problems = {sha256: str(fault) for sha256, fault in faults.items()}
    async with connected(service.settings) as (tx, own):
        return await writes.mend(tx, own, store, problems)
