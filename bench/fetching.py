"""Fetching: mails with ledger, synced objects and committed events; bare is aioimaplib alone."""

import ssl
import statistics
import time

import aioimaplib
import asyncpg

from bench.mails import mixed
from bench.processor import measured
from bench.rows import Aim, Row
from bench.stage import Stage, fill, reached, serving
from deploy.local.mail_programs import Person
from mailroom_fetcher import waking
from mailroom_fetcher.store import messaging

ROUNDS = 3
MAILS = 1000


async def rows(stage: Stage) -> list[Row]:
    """One: the middle of the rounds, each with mails of its own."""
    people: list[Person] = []
    for seed in range(ROUNDS):
        person = stage.person()
        fill(stage, person, mixed(MAILS, seed, person.address))
        stage.add_account(person, "--disabled")
        people.append(person)
    with serving(stage, "fetcher"), measured(stage.pids("fetcher")) as used:
        ours = [await _ours(stage, person) for person in people]
    bare = [await _bare(stage, person) for person in people]
    return [
        Row(
            "fetch",
            statistics.median(ours),
            "mails/s",
            statistics.median(bare),
            Aim("ratio", 0.5),
            used.each(MAILS * ROUNDS),
        )
    ]


async def _ours(stage: Stage, person: Person) -> float:
    connection = await asyncpg.connect(stage.database)
    arrived = (
        "SELECT count(*) FROM fetcher.arrivals JOIN fetcher.folders AS f ON folder = f.id"
        " JOIN directory.accounts_v1 AS a ON a.id = f.account"
        " WHERE a.name = $1"
    )
    await enable(connection, person)
    began = time.perf_counter()
    await reached(connection, arrived, MAILS, person.name)
    lasted = time.perf_counter() - began
    await reached(connection, f"SELECT count(*) FROM {messaging.outbox.fullname}", 0)
    await connection.close()
    return MAILS / lasted


async def enable(connection: asyncpg.Connection, person: Person) -> None:
    """Let an account be fetched, as of now."""
    await connection.execute(
        "UPDATE directory.accounts SET enabled = true WHERE name = $1", person.name
    )
    await connection.execute(f"SELECT pg_notify('{waking.CHANNEL}', '{waking.DIRECTORY}')")


async def _bare(stage: Stage, person: Person) -> float:
    began = time.perf_counter()
    client = await logged_in(stage, person)
    await client.select("INBOX")
    answer = await client.uid_search("ALL")
    uids = answer.lines[0].decode().split()
    fetched = 0
    for at in range(0, len(uids), 50):
        answer = await client.uid("fetch", ",".join(uids[at : at + 50]), "(UID BODY.PEEK[])")
        fetched += sum(isinstance(line, bytearray) for line in answer.lines)
    lasted = time.perf_counter() - began
    await client.logout()
    if fetched != MAILS:
        raise AssertionError(f"{fetched} mails, not {MAILS}")
    return MAILS / lasted


async def logged_in(stage: Stage, person: Person) -> aioimaplib.IMAP4_SSL:
    """A bare client."""
    context = ssl.create_default_context(cafile=stage.it.servers.ca_file)
    client = aioimaplib.IMAP4_SSL("localhost", stage.it.servers.dovecot.imaps, ssl_context=context)
    await client.wait_hello_from_server()
    await client.login(person.address, person.password)
    return client
