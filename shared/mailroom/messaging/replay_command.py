"""`mailroom replay`: have published events again, when a broker lost them or a queue is new."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from mailroom import clock
from mailroom.cli import Refusal, connected, refuse, run
from mailroom.contracts import CONTRACTS
from mailroom.messaging import outbox
from mailroom.service import ServiceUnknown, named


@click.command("replay")
@click.option(
    "--service", "service", required=True, metavar="SERVICE", help="the service that published them"
)
@click.option(
    "--since", required=True, metavar="TIME", help="ISO 8601: 2025-06-01 or 2025-06-01T12:00+02:00"
)
@click.option(
    "--name", "names", multiple=True, metavar="EVENT", help="only this: mail.routed …; repeatable"
)
def replay_command(service: str, since: str, names: tuple[str, ...]) -> None:
    """Publish again what a service published. Event ids stay the same.

    Consumers that had an event know it by its id, and do nothing. 200 a second are published, so
    that what is new does not wait behind them.
    """
    for name in names:
        if name not in CONTRACTS:
            raise refuse("name", name, f"give one of {', '.join(sorted(CONTRACTS))}")
    now = clock.now()
    count = run(_replay(service, _moment(since), names, now))
    last = outbox.last_due(now, count)
    late = f", the last at {last:%Y-%m-%d %H:%M:%S} UTC" if count > outbox.A_SECOND else ""
    click.echo(f"{count} events of {service} since {since} will be published again{late}")


async def _replay(service: str, since: datetime, names: Sequence[str], now: datetime) -> int:
    try:
        (found,) = named([service])
    except ServiceUnknown as unknown:
        raise Refusal(str(unknown)) from None
    async with connected(found.settings) as (tx, _):
        return await outbox.republish(tx, found.messaging, since, names, now)


def _moment(since: str) -> datetime:
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise refuse("since", since, "give a time as 2025-06-01T12:00+02:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
