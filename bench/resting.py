"""Memory while nothing happens: of each process, of all services in one, and of an idle account."""

import asyncio
import time
from collections.abc import Mapping

import asyncpg

from bench.processor import measured, resident
from bench.rows import Aim, Row
from bench.stage import Stage, multiply, reached, serving
from bench.whole import SERVICES

ACCOUNTS = 2_000
SETTLED = 3
AT_REST = 10
"""Seconds."""


def rows(stage: Stage) -> list[Row]:
    """`memory` of each process and of all services in one."""
    with serving(stage, *SERVICES):
        each, busy = _at_rest(stage, *SERVICES)
    with serving(stage, "all"):
        together, busy_together = _at_rest(stage, "all")
    note = ", ".join(f"{name} {held:.0f}" for name, held in each.items())
    most, own = max(busy, key=lambda name: busy[name]), busy_together["all"]
    return [
        Row("memory", max(each.values()), "MB", aim=Aim("ours", 90, at_most=True), note=note),
        Row("memory_all", together["all"], "MB", aim=Aim("ours", 180, at_most=True)),
        Row("rest", busy[most], "CPU ms/s", note=f"of the {most}; all services in one {own:.1f}"),
    ]


def _at_rest(stage: Stage, *services: str) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """MB, and milliseconds of processor time a second, of services that have nothing to do."""
    time.sleep(SETTLED)
    with measured(stage.pids(*services)) as used:
        time.sleep(AT_REST)
    return _resident(stage, *services), used.each(AT_REST)


def _resident(stage: Stage, *services: str) -> Mapping[str, float]:
    pids = stage.pids(*services)
    return {name: resident(pids[name]()) for name in services}


async def idle_rows(stage: Stage) -> list[Row]:
    """`idle_accounts`: KB that an account costs which waits in IDLE over TLS."""
    connection = await asyncpg.connect(stage.database)
    person = stage.person()
    stage.add_account(person, "--disabled")
    with serving(stage, "fetcher"):
        before = _resident(stage, "fetcher")["fetcher"]
        await multiply(connection, person.name, ACCOUNTS, enabled=True)
        await connection.execute("SELECT pg_notify('mailroom_fetcher', 'directory')")
        looked_at = "SELECT count(*) FROM fetcher.accounts WHERE state = 'ok'"
        already = await connection.fetchval(looked_at)
        await reached(connection, looked_at, already + ACCOUNTS, within=600)
        await asyncio.sleep(5)
        grown = _resident(stage, "fetcher")["fetcher"] - before
        await connection.execute(
            "DELETE FROM directory.accounts WHERE name LIKE $1", f"{person.name}-%"
        )
    await connection.close()
    kilobytes = grown * 1000 / ACCOUNTS
    return [Row("idle_accounts", kilobytes, "KB", aim=Aim("ours", 100, at_most=True))]
