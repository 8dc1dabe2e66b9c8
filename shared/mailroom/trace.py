"""`mailroom trace`: the way of one mail through all services, with times, decisions and reasons.

Invariant: each service is asked with its own role for what it alone knows. What one knows the mail
by (Message-ID, mail id, correlation id) is handed to the others until nobody knows more.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from functools import reduce
from typing import Any

import click

from mailroom import database, settings
from mailroom.cli import refuse, run
from mailroom.printing import one_line
from mailroom.service import Service, TraceKeys, TraceStep, named


def joined(one: TraceKeys, other: TraceKeys) -> TraceKeys:
    """What either knows."""
    return TraceKeys(
        one.message_ids | other.message_ids,
        one.mails | other.mails,
        one.correlation_ids | other.correlation_ids,
    )


async def _ask(service: Service[Any], keys: TraceKeys) -> tuple[TraceKeys, Sequence[TraceStep]]:
    if service.trace is None:
        return TraceKeys(), ()
    own = settings.load(service.settings)
    connections = database.engine(own.database_url, "mailroom trace", connections=1)
    try:
        async with connections.begin() as tx:
            return await service.trace(tx, keys)
    finally:
        await connections.dispose()


async def trace(services: Sequence[Service[Any]], message_id: str) -> list[TraceStep]:
    """Every step of the mail with this Message-ID and of what it caused, by time."""
    keys, known = TraceKeys(message_ids=frozenset({message_id.strip().strip("<>")})), None
    steps: list[TraceStep] = []
    while keys != known:
        known = keys
        answers = [await _ask(service, keys) for service in services]
        keys = reduce(joined, (more for more, _ in answers), keys)
        steps = [step for _, told in answers for step in told]
    return sorted(steps, key=lambda step: step.at)


def as_text(steps: Sequence[TraceStep]) -> str:
    """A line a day, and one a step: time to the millisecond, service, what, why and its details."""
    lines, day = [], None
    for step in steps:
        at = step.at.astimezone(UTC)
        if at.date() != day:
            day = at.date()
            lines.append(f"{day:%Y-%m-%d}, UTC")
        told = [step.why, *(f"{name}={value}" for name, value in step.detail.items())]
        words = "  ".join(one_line(each) for each in told if each)
        lines.append(f"{at:%H:%M:%S.%f}"[:-3] + f"  {step.service:<10} {step.what:<14} {words}")
    return "\n".join(line.rstrip() for line in lines)


@click.command("trace")
@click.argument("message_id")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def trace_command(message_id: str, as_json: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Print the way of the mail MESSAGE_ID. Through all services, with times in UTC.

    The exit code is 2 if none has seen it.
    """
    steps = run(trace(named(["all"]), message_id))
    if not steps:
        raise refuse("MESSAGE_ID", message_id, "no service has seen this mail; is it complete?")
    if not as_json:
        click.echo(as_text(steps))
        return
    for step in steps:
        click.echo(json.dumps({**asdict(step), "at": step.at.isoformat()}))
