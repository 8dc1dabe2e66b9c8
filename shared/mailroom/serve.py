"""`mailroom serve`: the life of one process, with one service in it or several.

Invariant: services start in any order and outlive the absence of broker and database. On SIGTERM
what is in hand is committed and acknowledged, or given back, within 15 seconds.
"""

import asyncio
import gc
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractRobustConnection
from aiormq.exceptions import InvalidFrameError
from faststream.rabbit import RabbitBroker
from sqlalchemy import func, select

from mailroom import database, ending, http, memory, settings
from mailroom.messaging import consume, presence
from mailroom.messaging.addresses import vhost_refused
from mailroom.messaging.failures import database_is_away
from mailroom.messaging.stopping import end_if_cancelled, leave
from mailroom.objects import open_store
from mailroom.observability import configure_logs
from mailroom.service import Resources, Service

log = structlog.get_logger("mailroom.serve")

LOOK_EVERY = 5.0
LOOK_AGAIN = 1.0
"""Seconds between looks, while something is missing."""
LONGEST_PAUSE = 30.0
RESOLVERS = 64
"""Threads for names: a name server that does not answer must not stop all accounts."""


@dataclass(frozen=True)
class _Running:
    service: Service[Any]
    resources: Resources[Any]
    broker: RabbitBroker


def _load(
    services: Sequence[Service[Any]],
) -> tuple[settings.CommonSettings, list[settings.ServiceSettings]]:
    """All settings, and what they name read. Raises SettingsRefused with every fault at once."""
    loaded: list[Any] = []
    faults: list[str] = []
    models: list[type[Any]] = [settings.CommonSettings, *(one.settings for one in services)]
    for model in models:
        try:
            loaded.append(settings.load(model))
            loaded[-1].read_files()
        except settings.SettingsRefused as refused:
            faults.append(str(refused))
    if faults:
        raise settings.SettingsRefused("; ".join(faults))
    return loaded[0], loaded[1:]


def _prepare(
    service: Service[Any], common: settings.CommonSettings, own: settings.ServiceSettings
) -> _Running:
    resources = Resources(
        common=common,
        settings=own,
        engine=database.engine(own.database_url, service.name),
        objects=open_store(common.objects),
        messaging=service.messaging,
        replica=f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}",
    )
    return _Running(service, resources, consume.broker_for(service, own))


async def run(services: Sequence[Service[Any]]) -> None:
    """Run services until SIGTERM or SIGINT; then this process ends.

    Raises SettingsRefused before anything has started.
    """
    common, own = _load(services)
    configure_logs(common.log_level, common.log_format)
    memory.give_back_soon()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(RESOLVERS, "resolve"))
    parts = [_prepare(service, common, each) for service, each in zip(services, own, strict=True)]
    # It stays for good: a full collection that looks through it takes a tenth of a second.
    gc.freeze()
    health = http.Health(not_ready={"process": "starting"})
    asked = ending.asked_to_stop()
    with http.serving(common.http, health) as (host, port):
        log.info("listening", http=f"{host}:{port}")
        living = asyncio.create_task(_live(parts, health))
        await asyncio.wait({living, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            await living
        health.not_ready["process"] = "stopping"
        await ending.end(living, [part.resources.engine for part in parts])


async def _live(parts: Sequence[_Running], health: http.Health) -> None:
    """Start, and work until cancelled; then settle what is in hand, or give it back."""
    tasks = [asyncio.create_task(http.beat(health), name="beat")]
    connections: list[AbstractRobustConnection] = []
    try:
        await asyncio.gather(*(_prepared(part, health) for part in parts))
        for part in parts:
            connections.append(await part.broker.connect())
            await part.broker.start()
            end_if_cancelled()
        tasks.extend(task for part in parts for task in _begin(part))
        tasks.append(asyncio.create_task(_look(parts, health), name="look"))
        health.not_ready.pop("process", None)
        log.info("started", services=[part.service.name for part in parts])
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.gather(*(leave(connection) for connection in connections))


def _begin(part: _Running) -> list[asyncio.Task[None]]:
    works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        *consume.tasks(part.service, part.broker, part.resources),
        *((task.__name__, lambda task=task: task(part.resources)) for task in part.service.tasks),
        ("end_who_stands_still", partial(_end_who_stands_still, part)),
    ]
    return [
        asyncio.create_task(_keep_running(part.service.name, name, work), name=name)
        for name, work in works
    ]


async def _keep_running(service: str, name: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = 1.0
    while True:
        try:
            await work()
        except Exception as failed:
            if database_is_away(failed):
                log.warning("task_waits_for_database", service=service, task=name)
                await asyncio.sleep(LOOK_EVERY)
                continue
            # The one place where a loop's own failure ends: told, and begun anew.
            log.exception("task_failed", service=service, task=name, error=str(failed), again=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _end_who_stands_still(part: _Running) -> None:
    """End what a frozen process of this service holds in the database, for ever."""
    while True:
        async with presence.begin(part.resources.engine) as tx:
            if ended := await database.end_who_stands_still(tx):
                log.warning("ended_who_stood_still", service=part.service.name, sessions=ended)
        await asyncio.sleep(LOOK_EVERY)


async def _prepared(part: _Running, health: http.Health) -> None:
    """Wait until broker and database answer, and `mailroom migrate` has prepared them."""
    name = part.service.name
    await asyncio.gather(
        _wait_for(f"{name} broker", partial(_broker_fault, part), health),
        _wait_for(f"{name} database", partial(_database_fault, part), health),
    )


async def _wait_for(what: str, fault_of: Callable[[], Awaitable[str]], health: http.Health) -> None:
    pause = 0.5
    while fault := await fault_of():
        if health.not_ready.get(what) != fault:
            log.warning("waits_to_start", waits_for=what, problem=fault)
        health.not_ready[what] = fault
        await asyncio.sleep(pause)
        pause = min(pause * 2, LOOK_EVERY)
    health.not_ready.pop(what, None)


async def _broker_fault(part: _Running) -> str:
    url = part.resources.settings.broker_url
    try:
        connection = await aio_pika.connect(str(url), timeout=10)
        try:
            for queue in consume.queues(part.service):
                channel = await connection.channel()
                await channel.declare_queue(queue, passive=True)
        finally:
            await leave(connection)
    except aio_pika.exceptions.ChannelNotFoundEntity as missing:
        return f"{missing}: run `mailroom migrate`"
    except InvalidFrameError:
        return vhost_refused(url)
    except (OSError, TimeoutError, aio_pika.exceptions.AMQPError) as failed:
        return str(failed) or type(failed).__name__
    return ""


async def _look(parts: Sequence[_Running], health: http.Health) -> None:
    """Keep /readyz true: look at each broker and database every few seconds, for ever."""
    while True:
        await asyncio.gather(*(_look_at(part, health) for part in parts))
        # Whoever waits for the return of one hears of it at once.
        await asyncio.sleep(LOOK_AGAIN if health.not_ready else LOOK_EVERY)


async def _look_at(part: _Running, health: http.Health) -> None:
    name = part.service.name
    connected, fault = await asyncio.gather(
        part.broker.ping(timeout=LOOK_AGAIN), _database_fault(part)
    )
    _tell(health, f"{name} broker", "" if connected else "no connection")
    _tell(health, f"{name} database", fault)


def _tell(health: http.Health, part: str, fault: str) -> None:
    if fault:
        health.not_ready[part] = fault
    else:
        health.not_ready.pop(part, None)


async def _database_fault(part: _Running) -> str:
    table = part.resources.messaging.outbox.fullname
    try:
        async with asyncio.timeout(LOOK_EVERY), part.resources.engine.connect() as connection:
            query = select(
                func.to_regclass(table).is_not(None), func.current_setting("transaction_read_only")
            )
            is_there, read_only = (await connection.execute(query)).one()
    except Exception as failed:  # noqa: BLE001 -- whatever it is, it is what /readyz must tell
        return str(failed).partition("\n")[0] or type(failed).__name__
    if read_only == "on":
        # A standby answers as if nothing were.
        return "PostgreSQL is read-only"
    return "" if is_there else f"no table {table}: run `mailroom migrate`"
