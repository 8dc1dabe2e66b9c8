"""How cost grows: a mail's processor time when there is ten times as much of everything."""

import asyncpg

from bench.fetching import enable
from bench.mails import mixed
from bench.processor import measured
from bench.rows import Aim, Row
from bench.stage import Stage, fill, multiply, reached, serving
from bench.whole import SERVICES, TICKETS, queue

SOME = 300
ACCOUNTS = 2_000


async def rows(stage: Stage) -> list[Row]:
    """`grow_mails` and `grow_accounts`; bare is what it was with little there."""
    connection = await asyncpg.connect(stage.database)
    with serving(stage, *SERVICES):
        # What starting them costs is not of these mails.
        await _cost(stage, connection, SOME, 1)
        little = await _cost(stage, connection, SOME, 2)
        await _cost(stage, connection, 10 * SOME, 3)
        mails = await _cost(stage, connection, SOME, 4)
        one = stage.person()
        stage.add_account(one, "--disabled")
        await multiply(connection, one.name, ACCOUNTS, enabled=False)
        accounts = await _cost(stage, connection, SOME, 5)
    await connection.close()
    aim = Aim("ratio", 1.2, at_most=True)
    return [
        Row("grow_mails", sum(mails.values()), "CPU ms", sum(little.values()), aim, mails),
        Row("grow_accounts", sum(accounts.values()), "CPU ms", sum(little.values()), aim, accounts),
    ]


async def _cost(
    stage: Stage, connection: asyncpg.Connection, count: int, seed: int
) -> dict[str, float]:
    """Milliseconds a mail, by process, of so many that each open a ticket."""
    person = queue(stage)
    fill(stage, person, mixed(count, seed, person.address))
    with measured(stage.pids(*SERVICES)) as used:
        await enable(connection, person)
        await reached(connection, TICKETS, count, person.name)
    return used.each(count)
