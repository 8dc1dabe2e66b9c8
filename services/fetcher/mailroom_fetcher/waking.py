"""Hears what other replicas and the handlers say, by PostgreSQL's LISTEN and NOTIFY.

Invariant: a word only hastens what the supervisor would find by itself at its next turn, so that
one that is lost costs seconds and nothing else.
"""

from collections.abc import Callable

from pydantic_core import Url
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import notifications

CHANNEL = "mailroom_fetcher"
LEASES = "leases"
"""Some replica let go of accounts."""
DIRECTORY = "directory"
"""The directory's accounts changed."""
FETCH = "fetch"
"""Some accounts are to be fetched at once."""


async def say(tx: AsyncConnection, word: str) -> None:
    """Tell all replicas when `tx` commits."""
    await tx.execute(select(func.pg_notify(CHANNEL, word)))


async def listen(url: Url, heard: Callable[[str], None]) -> None:
    """Call `heard` with each word, for ever; while PostgreSQL is away, nothing is heard."""

    def begun() -> None:
        heard(LEASES)  # and whatever was said meanwhile
        heard(DIRECTORY)

    await notifications.listen(url, "fetcher words", CHANNEL, heard, begun)
