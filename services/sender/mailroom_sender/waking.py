"""Hears at once that something is due, by PostgreSQL's LISTEN and NOTIFY.

Invariant: a word only hastens what the next look would find by itself, so that a lost one costs
`poll_seconds` and nothing else.
"""

import asyncio

from pydantic_core import Url
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import notifications

CHANNEL = "mailroom_sender_due"
_WORD = select(func.pg_notify(CHANNEL, ""))


async def wake(tx: AsyncConnection) -> None:
    """Tell all replicas, when `tx` commits, that something is due."""
    await tx.execute(_WORD)


async def listen(url: Url, heard: asyncio.Event) -> None:
    """Set `heard` at each word, for ever. While PostgreSQL is away nothing is heard."""
    await notifications.listen(url, "sender words", CHANNEL, lambda _: heard.set(), heard.set)
