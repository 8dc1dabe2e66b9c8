"""The whole way, from an IMAP folder to a ticket: how many a second, and how long one takes."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from random import Random

import aioimaplib
import asyncpg

from bench.fetching import enable, logged_in
from bench.mails import mail, mixed
from bench.processor import measured
from bench.rows import Aim, Row
from bench.stage import Stage, fill, reached, serving
from deploy.local.mail_programs import Person
from deploy.local.operating import command

MAILS = 1000
ONE_BY_ONE = 100
SERVICES = ("directory", "fetcher", "router", "sender", "ticketing")
TICKETS = (
    "SELECT count(*) FROM ticketing.ticket JOIN ticketing.ticket_queue AS q ON ticket_queue = q.id"
    " WHERE q.name = $1"
)

_TELLS = """
CREATE FUNCTION bench_ticket() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM pg_notify('bench_ticket', ''); RETURN NULL; END $$;
CREATE TRIGGER bench_ticket AFTER INSERT ON ticketing.ticket EXECUTE FUNCTION bench_ticket()
"""
"""PostgreSQL tells at the commit: nothing need be asked again and again."""


async def rows(stage: Stage) -> list[Row]:
    """`end_to_end` and `latency`."""
    many, single = queue(stage), queue(stage)
    fill(stage, many, mixed(MAILS, 100, many.address))
    with serving(stage, *SERVICES):
        return [await _end_to_end(stage, many), *await _latency(stage, single)]


async def end_to_end(stage: Stage) -> Row:
    """`end_to_end` alone."""
    person = queue(stage)
    fill(stage, person, mixed(MAILS, 100, person.address))
    with serving(stage, *SERVICES):
        return await _end_to_end(stage, person)


def queue(stage: Stage) -> Person:
    """An account whose mail, however old, is new to a ticket queue of its own.

    It acknowledges nothing: how fast mail is sent is another row's.
    """
    person = stage.person()
    stage.add_account(person, "--disabled", "--start", "2020-01-01")
    words = ("--mailbox", person.name, "--account", person.name, "--silent")
    command(stage.it, "ticket-queue", "add", person.name, *words)
    return person


async def _end_to_end(stage: Stage, person: Person) -> Row:
    connection = await asyncpg.connect(stage.database)
    with measured(stage.pids(*SERVICES)) as used:
        await enable(connection, person)
        began = time.perf_counter()
        await reached(connection, TICKETS, MAILS, person.name)
        lasted = time.perf_counter() - began
    await connection.close()
    return Row("end_to_end", MAILS / lasted, "mails/s", aim=Aim("ours", 400), cpu=used.each(MAILS))


async def _latency(stage: Stage, person: Person) -> list[Row]:
    """From the server's notice to the ticket's commit, one mail at a time, and none beside it."""
    connection = await asyncpg.connect(stage.database)
    committed = asyncio.Event()
    await connection.execute(_TELLS)
    await connection.add_listener("bench_ticket", lambda *_: committed.set())
    await enable(connection, person)
    witness, writer = await logged_in(stage, person), await logged_in(stage, person)
    await witness.select("INBOX")
    noticed, taken = [], []
    random = Random(7)
    for _ in range(ONE_BY_ONE):
        raw = mail(random, 4_000, person.address)
        committed.clear()
        idling = await witness.idle_start(timeout=30)
        began = time.perf_counter()
        await writer.append(raw, "INBOX")
        notice, ticket = await asyncio.gather(_pushed(witness), _set(committed))
        noticed.append((notice - began) * 1000)
        taken.append((ticket - notice) * 1000)
        witness.idle_done()
        await asyncio.wait_for(idling, 10)
    for client in (witness, writer):
        await client.logout()
    await connection.close()
    own = f"the server's own notice: p50 {statistics.median(noticed):.0f} ms"
    return [
        Row(
            "latency_p50", _percentile(taken, 50), "ms", aim=Aim("ours", 15, at_most=True), note=own
        ),
        Row("latency_p99", _percentile(taken, 99), "ms", aim=Aim("ours", 60, at_most=True)),
    ]


async def _pushed(client: aioimaplib.IMAP4_SSL) -> float:
    while not any(b"EXISTS" in line for line in await client.wait_server_push(30)):
        continue
    return time.perf_counter()


async def _set(event: asyncio.Event) -> float:
    await asyncio.wait_for(event.wait(), 30)
    return time.perf_counter()


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
