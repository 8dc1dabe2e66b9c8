"""`mailroom tally`: who writes most."""

from collections.abc import Sequence

import click

from mailroom.cli import connected, run
from mailroom_tally import store
from mailroom_tally.settings import TallySettings


@click.command("tally")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, help="at most so many")
def tally(limit: int) -> None:
    """List who wrote most to the central mailboxes."""

    async def work() -> Sequence[tuple[str, int]]:
        async with connected(TallySettings) as (tx, _):
            return await store.most(tx, limit)

    for address, mails in run(work()):
        click.echo(f"{mails:>6}  {address}")
