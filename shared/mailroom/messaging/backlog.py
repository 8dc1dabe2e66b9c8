"""How much waits: gauges that say what stands still, also while RabbitMQ is away."""

import asyncio
from datetime import datetime
from typing import Any

from prometheus_client import Gauge
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from mailroom import clock
from mailroom.messaging.failures import DatabaseAway
from mailroom.messaging.presence import begin
from mailroom.service import Resources, Service

OLDEST = Gauge(
    "mailroom_outbox_oldest_seconds", "Seconds that the oldest event is overdue", ["service"]
)
WAITING = Gauge("mailroom_outbox_due", "Events that are due and not yet published", ["service"])
PROBLEMS = Gauge("mailroom_outbox_problems", "Events that cannot be published", ["service"])
PARKED = Gauge("mailroom_parked_events", "Events that a person must look at", ["service"])

EVERY = 5.0
"""Seconds."""


async def watch(service: Service[Any], resources: Resources[Any]) -> None:
    """Keep the gauges, until cancelled. Without PostgreSQL they keep their last values."""
    while True:
        try:
            await look(service, resources, clock.now())
        except (SQLAlchemyError, DatabaseAway):
            # The consumers and /readyz tell of it.
            await asyncio.sleep(EVERY)
        await asyncio.sleep(EVERY)


async def look(service: Service[Any], resources: Resources[Any], moment: datetime) -> None:
    """Set the gauges as things are at `moment`."""
    outbox, parked = resources.messaging.outbox, resources.messaging.parked
    due = select(func.count(), func.min(outbox.c.due)).where(outbox.c.due <= moment)
    problems = select(func.count()).where(outbox.c.problem.is_not(None))
    async with begin(resources.engine) as tx:
        count, oldest = (await tx.execute(due)).one()
        PROBLEMS.labels(service.name).set((await tx.execute(problems)).scalar_one())
        PARKED.labels(service.name).set(
            (await tx.execute(select(func.count()).select_from(parked))).scalar_one()
        )
    WAITING.labels(service.name).set(count)
    OLDEST.labels(service.name).set((moment - oldest).total_seconds() if oldest else 0)
