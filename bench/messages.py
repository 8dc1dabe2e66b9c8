"""Events: out of an outbox with confirms, and into a table once; bare is aio-pika and Core."""

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from uuid import uuid4

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import URL, Column, Integer, MetaData, Table, Text, make_url
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bench.processor import measured
from bench.rows import Aim, Row
from bench.stage import Stage, reached
from bench.storing import SERVICE, Noted, StoringSettings, create_tables, messaging, notes
from mailroom import database, settings
from mailroom.messaging import consume, outbox, relay, topology
from mailroom.messaging.envelope import Outgoing
from mailroom.objects import open_store
from mailroom.observability import configure_logs
from mailroom.service import Resources

EVENTS = 5_000
ROUNDS = 3
BATCH = 100
_QUEUE = topology.queue_name(SERVICE.name, Noted)
_OUTBOX = f"SELECT count(*) FROM {messaging.outbox.fullname}"
_BARE = MetaData()
_SEEN = Table("bare_seen", _BARE, Column("id", Text, primary_key=True))
_NOTES = Table(
    "bare_notes", _BARE, Column("number", Integer, primary_key=True), Column("words", Text)
)


@dataclass(frozen=True)
class _At:
    stage: Stage
    resources: Resources[StoringSettings]
    watching: asyncpg.Connection
    engine: AsyncEngine
    """Of the bare consumer."""


@dataclass
class _Measured:
    """Events a second, and processor time, of one way."""

    name: str
    rates: list[float] = field(default_factory=list)
    bare_rates: list[float] = field(default_factory=list)
    cpu: Counter[str] = field(default_factory=Counter)

    async def ours(self, at: _At, work: Awaitable[None]) -> None:
        with measured({"bench": lambda: [os.getpid()], **at.stage.pids()}) as used:
            self.rates.append(await _rate(work))
        self.cpu.update(used.each(EVENTS * ROUNDS))

    async def bare(self, work: Awaitable[None]) -> None:
        self.bare_rates.append(await _rate(work))

    def row(self, aim: Aim) -> Row:
        """The middle of the rounds."""
        ours, bare = statistics.median(self.rates), statistics.median(self.bare_rates)
        return Row(self.name, ours, "events/s", bare, aim, self.cpu)


async def rows(stage: Stage) -> list[Row]:
    """`relay` and `consume`: what the one brings to a queue, the other takes from it."""
    # Every event is logged, as in a service.
    with (stage.it.folder / "log").open("w") as log, redirect_stdout(log):
        configure_logs("INFO", "json")
        async with _resources(stage) as at:
            return await _in_turn(at)


async def _in_turn(at: _At) -> list[Row]:
    relayed, consumed = _Measured("relay"), _Measured("consume")
    for number in range(ROUNDS):
        await _fill_outbox(at, 2 * number)
        await relayed.ours(at, _relay(at))
        await consumed.ours(at, _consume(at))
        await relayed.bare(_publish(at, 2 * number + 1))
        await consumed.bare(_consume_bare(at))
    return [relayed.row(Aim("ours", 5_000)), consumed.row(Aim("ratio", 0.7))]


async def _rate(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return EVENTS / (time.perf_counter() - began)


@asynccontextmanager
async def _resources(stage: Stage) -> AsyncIterator[_At]:
    os.environ |= stage.it.environment
    common, owner = settings.load(settings.CommonSettings), settings.load(settings.OwnerSettings)
    own = settings.load(StoringSettings)
    made = create_async_engine(_asyncpg(str(owner.database_url)))
    bare = create_async_engine(_asyncpg(stage.database))
    async with made.begin() as tx:
        await tx.run_sync(create_tables)
    async with bare.begin() as tx:
        await tx.run_sync(_BARE.create_all)
    async with await aio_pika.connect(str(owner.broker_url)) as connection:
        await topology.declare(connection, [SERVICE])
    engine = database.engine(own.database_url, "storing")
    resources = Resources(
        common, own, engine, open_store(common.objects), messaging, replica="bench"
    )
    watching = await asyncpg.connect(stage.database)
    try:
        yield _At(stage, resources, watching, bare)
    finally:
        await watching.close()
        for each in (made, bare, engine):
            await each.dispose()


def _asyncpg(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+asyncpg")


def _noted(number: int) -> list[Noted]:
    """Of half a kilobyte each, as most events are."""
    first = number * EVENTS
    return [Noted(number=first + each, words="On its way. " * 40) for each in range(EVENTS)]


async def _fill_outbox(at: _At, number: int) -> None:
    async with at.resources.engine.begin() as tx:
        await outbox.add(tx, messaging, [Outgoing(each, uuid4().hex) for each in _noted(number)])


async def _relay(at: _At) -> None:
    running = asyncio.create_task(relay.relay(SERVICE, at.resources))
    await reached(at.watching, _OUTBOX, 0)
    running.cancel()
    await asyncio.wait([running])


async def _publish(at: _At, number: int) -> None:
    """Windows of as many, with all confirmations in flight."""
    url = str(at.resources.settings.broker_url)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(topology.EXCHANGE)
        messages = [_message(each) for each in _noted(number)]
        for start in range(0, EVENTS, relay.WINDOW):
            window = messages[start : start + relay.WINDOW]
            await asyncio.gather(*(exchange.publish(one, Noted.name) for one in window))


def _message(event: Noted) -> aio_pika.Message:
    return aio_pika.Message(
        event.model_dump_json().encode(),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=uuid4().hex,
    )


async def _consume(at: _At) -> None:
    broker = consume.broker_for(SERVICE, at.resources.settings)
    await broker.start()
    name = f"consume {_QUEUE}"
    loop = next(
        each for title, each in consume.tasks(SERVICE, broker, at.resources) if title == name
    )
    running = asyncio.ensure_future(loop())
    await reached(at.watching, f"SELECT count(*) FROM {notes.fullname}", EVENTS)
    running.cancel()
    await asyncio.wait([running])
    await broker.stop()
    await at.watching.execute(f"DELETE FROM {notes.fullname}")


async def _consume_bare(at: _At) -> None:
    """The least that stores each event once: ids and rows in one transaction, then one ack."""
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with await aio_pika.connect(str(at.resources.settings.broker_url)) as connection:
        channel = await connection.channel()
        await channel.set_qos(2 * BATCH)
        queue = await channel.get_queue(_QUEUE)
        await queue.consume(arrived.put)
        stored = 0
        while stored < EVENTS:
            batch = [await arrived.get()]
            while not arrived.empty() and len(batch) < BATCH:
                batch.append(arrived.get_nowait())
            await _store_bare(at.engine, batch)
            await batch[-1].ack(multiple=True)
            stored += len(batch)


async def _store_bare(engine: AsyncEngine, batch: Sequence[AbstractIncomingMessage]) -> None:
    ids = insert(_SEEN).on_conflict_do_nothing().returning(_SEEN.c.id)
    events = {str(message.message_id): json.loads(message.body) for message in batch}
    async with engine.begin() as tx:
        new = await tx.scalars(ids, [{"id": each} for each in events])
        rows = [{name: events[id_][name] for name in ("number", "words")} for id_ in new]
        await tx.execute(insert(_NOTES), rows)
