"""`mailroom serve`: the life of one process, with one service in it or several.

Invariant: services start in any order and outlive the absence of broker and database. On SIGTERM
what is in hand is committed and acknowledged, or given back, within 15 seconds.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
import structlog
from faststream import FastStream
from faststream.rabbit import RabbitBroker
from sqlalchemy import text

from mailroom import database, http, settings
from mailroom.messaging import consume
from mailroom.objects import open_store
from mailroom.observability import configure_logs
from mailroom.service import Resources, Service

log = structlog.get_logger("mailroom.serve")

STOP_WITHIN = 10.0
LOOK_EVERY = 5.0
LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class _Running:
    service: Service[Any]
    resources: Resources[Any]
    broker: RabbitBroker


def _prepare(service: Service[Any], common: settings.CommonSettings) -> _Running:
    own = settings.load(service.settings)
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
    """Run services until SIGTERM or SIGINT. Raises SettingsRefused before anything has started."""
    common = settings.load(settings.CommonSettings)
    configure_logs(common.log_level, common.log_format)
    parts = [_prepare(service, common) for service in services]
    health = http.Health(not_ready={"process": "starting"})
    # One application for all brokers: of several in one process, only the last hears SIGTERM.
    app = FastStream(*(part.broker for part in parts), logger=None)
    tasks: list[asyncio.Task[None]] = []

    @app.on_startup
    async def wait_for_brokers() -> None:
        tasks.append(asyncio.create_task(http.beat(health)))
        await asyncio.gather(*(_queues_there(part, health) for part in parts))

    @app.after_startup
    async def begin() -> None:
        health.not_ready.pop("process", None)
        for part in parts:
            tasks.extend(_begin(part))
        tasks.append(asyncio.create_task(_look(parts, health)))
        log.info("started", services=[part.service.name for part in parts])

    @app.on_shutdown
    async def end() -> None:
        health.not_ready["process"] = "stopping"
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_WITHIN)

    with http.serving(common.http, health) as (host, port):
        log.info("listening", http=f"{host}:{port}")
        async with _disposing(parts):
            await app.run()


@asynccontextmanager
async def _disposing(parts: Sequence[_Running]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for part in parts:
            await part.resources.engine.dispose()


def _begin(part: _Running) -> list[asyncio.Task[None]]:
    works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        *consume.tasks(part.service, part.broker, part.resources),
        *((task.__name__, lambda task=task: task(part.resources)) for task in part.service.tasks),
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
            # The one place where a loop's own failure ends: told, and begun anew.
            log.exception("task_failed", service=service, task=name, error=str(failed), again=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _queues_there(part: _Running, health: http.Health) -> None:
    """Wait until the broker answers and `mailroom migrate` has declared this service's queues."""
    name, pause = f"{part.service.name} broker", 0.5
    while fault := await _missing(part):
        if health.not_ready.get(name) != fault:
            log.warning("waiting_for_broker", service=part.service.name, problem=fault)
        health.not_ready[name] = fault
        await asyncio.sleep(pause)
        pause = min(pause * 2, LOOK_EVERY)
    health.not_ready.pop(name, None)


async def _missing(part: _Running) -> str:
    try:
        connection = await aio_pika.connect(str(part.resources.settings.broker_url), timeout=10)
        async with connection:
            for queue in consume.queues(part.service):
                channel = await connection.channel()
                await channel.declare_queue(queue, passive=True)
    except aio_pika.exceptions.ChannelNotFoundEntity as missing:
        return f"{missing}: run `mailroom migrate`"
    except (OSError, TimeoutError, aio_pika.exceptions.AMQPError) as failed:
        return str(failed) or type(failed).__name__
    return ""


async def _look(parts: Sequence[_Running], health: http.Health) -> None:
    """Keep /readyz true: look at each broker and database every few seconds, for ever."""
    while True:
        for part in parts:
            connected = await part.broker.ping(timeout=LOOK_EVERY)
            _tell(health, f"{part.service.name} broker", "" if connected else "no connection")
            _tell(health, f"{part.service.name} database", await _database_fault(part))
        await asyncio.sleep(LOOK_EVERY)


def _tell(health: http.Health, part: str, fault: str) -> None:
    if fault:
        health.not_ready[part] = fault
    else:
        health.not_ready.pop(part, None)


async def _database_fault(part: _Running) -> str:
    try:
        async with asyncio.timeout(LOOK_EVERY), part.resources.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as failed:  # noqa: BLE001 -- whatever it is, it is what /readyz must tell
        return str(failed).partition("\n")[0] or type(failed).__name__
    return ""
