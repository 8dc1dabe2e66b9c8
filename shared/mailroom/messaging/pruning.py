"""Forgets what is old: days of published events, and consumed ids.

Invariant: ids are kept longer than events, so that whatever can still be replayed is still known.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import func, literal, select
from sqlalchemy.exc import SQLAlchemyError

from mailroom import clock
from mailroom.crashpoints import crashpoint
from mailroom.messaging.consumed import KEPT_BEYOND_RETENTION, forget_some
from mailroom.messaging.failures import DatabaseAway, describe
from mailroom.messaging.presence import begin
from mailroom.service import Resources, Service

log = structlog.get_logger("mailroom.messaging")

EVERY = 3600.0
"""Seconds."""

_AFTER_FAILURE = 60.0


async def prune(service: Service[Any], resources: Resources[Any]) -> None:
    """Prune now and every hour, until cancelled."""
    while True:
        try:
            await prune_once(resources, clock.now())
        except (SQLAlchemyError, DatabaseAway) as failed:
            log.warning("prune_waits", service=service.name, problem=describe(failed))
            await asyncio.sleep(_AFTER_FAILURE)
        else:
            await asyncio.sleep(EVERY)


async def prune_once(resources: Resources[Any], moment: datetime) -> None:
    """Drop days and forget ids that are too old at `moment`, in short transactions."""
    tables = resources.messaging
    retention = timedelta(days=resources.settings.retention_days)
    functions = getattr(func, tables.schema)
    async with begin(resources.engine) as tx:
        await tx.execute(select(functions.drop_outbox_days(literal(moment - retention))))
    crashpoint("prune.days_dropped", tables.schema)
    while True:
        async with begin(resources.engine) as tx:
            if not await forget_some(tx, tables, moment - retention - KEPT_BEYOND_RETENTION):
                return
