"""Bytes that the object store lost: brought again by whoever brought them and still has them.

Invariant: an arrival whose bytes are lost is as one that the server has not delivered yet: parked
in the ledger, asked for again by the account's holder, and, when its bytes are there, published
again under the same ids. Whoever handled it knows it by them.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, directory, objects
from mailroom_fetcher import leases, store, waking
from mailroom_fetcher.settings import FetcherSettings

log = structlog.get_logger("mailroom.fetcher")

LOST = Counter(
    "mailroom_fetcher_lost_total",
    "Objects that were asked for again: wanted (an account may have them), nowhere.",
    ["outcome"],
)
NOWHERE = "no account that is read has brought it, or its folder was renumbered since"


async def bring_again(
    tx: AsyncConnection, bytes_: objects.ObjectStore, asked: Mapping[str, str], now: datetime
) -> dict[str, set[UUID]]:
    """Have lost objects brought again when `tx` commits; by hash, the accounts that are asked.

    `asked` leads from SHA-256 to what is wrong. What is sound (by now) is left out.
    """
    lost = {each: why for each, why in asked.items() if await objects.fault_of(bytes_, each)}
    living = {each.id for each in await directory.accounts(tx) if each.enabled and each.imap}
    having = living & await store.bringers(tx, lost)
    found: dict[str, set[UUID]] = defaultdict(set)
    if having:
        # First: it locks the accounts, as everybody does who then writes to their folders.
        await leases.want_fetched(tx, having, now)
        await waking.say(tx, waking.FETCH)
        for sha256, account in await store.lose(tx, lost, having, now):
            found[sha256].add(account)
    for sha256, why in lost.items():
        accounts = sorted(map(str, found[sha256]))
        LOST.labels("wanted" if accounts else "nowhere").inc()
        log.warning("bytes_lost", object=sha256, problem=why, asked=accounts, nowhere=not accounts)
    return {sha256: found[sha256] for sha256 in lost}


async def mend(
    tx: AsyncConnection,
    _: FetcherSettings,
    bytes_: objects.ObjectStore,
    damaged: Mapping[str, str],
) -> Mapping[str, str]:
    """For `mailroom objects check --repair`."""
    asked = await bring_again(tx, bytes_, damaged, clock.now())
    names = {one.id: one.name for one in await directory.accounts(tx)}
    return {
        sha256: f"asked for again from {', '.join(sorted(names[one] for one in accounts))}"
        if accounts
        else f"{NOWHERE}: restore a backup"
        for sha256, accounts in asked.items()
    }
