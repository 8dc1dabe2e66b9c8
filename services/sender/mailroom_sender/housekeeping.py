"""What nobody waits for: gauges of what is waiting, and forgetting what is old."""

import asyncio
from datetime import datetime, timedelta

import structlog
from prometheus_client import Gauge
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.messaging.presence import begin
from mailroom.service import Resources
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import cancellations, copies, rejections, requests, uploads

log = structlog.get_logger("mailroom.sender.housekeeping")

COUNT_EVERY = 15.0
FORGET_EVERY = 3600.0
FORGOTTEN = 1000
"""Requests a transaction."""
OPEN = ("accepted", "sending", "unknown")

WAITING = Gauge("mailroom_sender_waiting", "mails by state that have not come to an end", ["state"])
OLDEST = Gauge(
    "mailroom_sender_oldest_seconds", "age of the oldest of them, from when it was due", ["state"]
)


async def count_what_waits(resources: Resources[SenderSettings]) -> None:
    """Keep the gauges true."""
    while True:
        async with begin(resources.engine) as tx:
            await _count(tx)
        await asyncio.sleep(COUNT_EVERY)


async def _count(tx: AsyncConnection) -> None:
    now = clock.now()
    waiting = dict.fromkeys((*OPEN, "unfiled"), (0, 0.0))
    rows = await tx.execute(
        select(requests.c.state, func.count(), func.min(requests.c.first_due))
        .where(requests.c.ended_at.is_(None), requests.c.state.in_(OPEN))
        .group_by(requests.c.state)
    )
    for state, count, oldest in rows:
        waiting[state] = count, (now - oldest).total_seconds()
    unfiled = select(func.count(), func.min(copies.c.created_at)).where(copies.c.due.is_not(None))
    count, oldest = (await tx.execute(unfiled)).one()
    if count:
        waiting["unfiled"] = count, (now - oldest).total_seconds()
    for state, (count, age) in waiting.items():
        WAITING.labels(state).set(count)
        # What is to leave tomorrow is not late.
        OLDEST.labels(state).set(max(age, 0))


async def forget_old(resources: Resources[SenderSettings]) -> None:
    """Forget what is older than `keep_days`, every hour."""
    while True:
        await forget_once(resources)
        await asyncio.sleep(FORGET_EVERY)


async def forget_once(resources: Resources[SenderSettings]) -> None:
    """Forget requests that have come to an end, rejections, cancellations and uploads."""
    before, forgotten = clock.now() - timedelta(days=resources.settings.keep_days), FORGOTTEN
    while forgotten == FORGOTTEN:
        async with begin(resources.engine) as tx:
            forgotten = await _prune(tx, before, FORGOTTEN)
        if forgotten:
            log.info("requests_forgotten", count=forgotten)


async def _prune(tx: AsyncConnection, before: datetime, limit: int) -> int:
    """Forget requests and what else is older than `before`; how many requests."""
    old = (
        select(requests.c.mail)
        .where(requests.c.accepted_at < before, requests.c.ended_at.is_not(None))
        .limit(limit)
    )
    gone = await tx.execute(delete(requests).where(requests.c.mail.in_(old)))
    await tx.execute(delete(rejections).where(rejections.c.rejected_at < before))
    await tx.execute(delete(cancellations).where(cancellations.c.cancelled_at < before))
    await tx.execute(delete(uploads).where(uploads.c.uploaded_at < before))
    return gone.rowcount
