"""The supervisor: which accounts this replica holds, and a task for each of them.

Invariant: a task runs only for an account whose lease this replica holds. It is ended before the
lease is let go; if the lease was taken away, it is ended at the next turn, and cannot write before.
One account's failure, even a bug of ours, ends no other's task.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, directory, tls, waiting
from mailroom.crashpoints import crashpoint
from mailroom.directory import Account
from mailroom.messaging.failures import DatabaseAway, database_is_away, describe
from mailroom.messaging.presence import begin
from mailroom.service import Resources
from mailroom.standstill import Seen, watched
from mailroom_fetcher import leases, observing, waking
from mailroom_fetcher.account import Shared, attend
from mailroom_fetcher.budget import Budget
from mailroom_fetcher.leases import Held, LeaseLost, fair_share
from mailroom_fetcher.settings import FetcherSettings

log = structlog.get_logger("mailroom.fetcher")

READ_AGAIN = timedelta(seconds=30)
"""The directory is read so often even if nobody says that it changed."""
LONGEST_PAUSE = 60.0
LEAVE_WITHIN = 3.0
"""Seconds to let go of all accounts at the end; else others wait until the leases run out."""


@dataclass
class Attended:
    """An account's task, and how to wake it."""

    account: Account
    task: asyncio.Task[None]
    wake: asyncio.Event
    wanted_at: datetime | None
    """When somebody wanted it fetched at once, as last seen: another time is another wish."""


@dataclass
class Supervisor:
    """What the supervisor knows between two turns."""

    shared: Shared
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: take the next turn at once."""
    wanted: dict[UUID, Account] = field(default_factory=dict)
    read_at: datetime | None = None
    """When the directory was last read; None: read it again."""
    attended: dict[UUID, Attended] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    """The replicas' signs of life."""


async def attend_accounts(resources: Resources[FetcherSettings]) -> None:
    """Hold a fair share of all accounts and attend to each, until cancelled."""
    settings = resources.settings
    shared = Shared(
        resources,
        tls.client_context(resources.common.tls_ca_file),
        directory.load_keys(settings.unseal_keys_file),
        Budget(settings.memory_mb * 1024 * 1024),
    )
    supervisor = Supervisor(shared)
    listening = asyncio.create_task(
        waking.listen(settings.database_url, lambda word: _heard(supervisor, word))
    )
    try:
        while True:
            await _take_turn(supervisor)
    finally:
        listening.cancel()
        await _stop(supervisor, list(supervisor.attended))
        await _leave(resources)


async def _leave(resources: Resources[FetcherSettings]) -> None:
    try:
        async with asyncio.timeout(LEAVE_WITHIN), begin(resources.engine) as tx:
            await leases.leave(tx, resources.replica)
            await waking.say(tx, waking.LEASES)
    except (SQLAlchemyError, DatabaseAway, TimeoutError) as away:
        log.warning("leases_not_released", problem=describe(away))


def _heard(supervisor: Supervisor, word: str) -> None:
    if word == waking.DIRECTORY:
        supervisor.read_at = None
    supervisor.turn.set()


async def _take_turn(supervisor: Supervisor) -> None:
    supervisor.turn.clear()
    length = supervisor.shared.resources.settings.lease_seconds
    try:
        async with asyncio.timeout(length):
            await _share_out(supervisor)
    except (SQLAlchemyError, DatabaseAway, TimeoutError) as away:
        # The tasks go on: they wait for mail, and what they write checks the lease by itself.
        log.warning("turn_missed", problem=describe(away))
    else:
        supervisor.shared.database_answers.set()
    await waiting.is_set(supervisor.turn, within=length / 3)


async def _share_out(supervisor: Supervisor) -> None:
    """Renew, end what is not ours (any more), let go of what is too much, claim what is free."""
    resources = supervisor.shared.resources
    me, length = resources.replica, timedelta(seconds=resources.settings.lease_seconds)
    async with begin(resources.engine) as tx:
        await _read_directory(supervisor, tx)
        signs = await leases.alive(tx, me, clock.now(), length)
        held = await leases.held_by(tx, me)
    crashpoint("fetcher.replica_told")
    dead = _dead(supervisor, signs)
    wanted, replicas = supervisor.wanted, len(signs) - len(dead)
    share = fair_share(len(wanted), replicas)
    kept = sorted(account for account in held if account in wanted)[:share]
    await _stop(supervisor, _to_end(supervisor, kept))
    surplus = sorted(held.keys() - set(kept))
    async with begin(resources.engine) as tx:
        if surplus:
            await leases.release(tx, me, surplus)
            await waking.say(tx, waking.LEASES)
        if dead:
            await leases.bury(tx, dead)
        claimed = []
        if len(kept) < share:
            room = share - len(kept)
            claimed = await leases.claim(tx, me, list(wanted), room)
    crashpoint("fetcher.accounts_claimed")
    for account in (*kept, *claimed):
        _begin(supervisor, wanted[account], held.get(account))
    if surplus or claimed:
        log.info("accounts_shared", held=len(kept) + len(claimed), replicas=replicas)


def _dead(supervisor: Supervisor, signs: Mapping[str, datetime]) -> dict[str, datetime]:
    """The other replicas that have been watched standing still for the length of a lease."""
    resources, seen, now = supervisor.shared.resources, supervisor.seen, time.monotonic()
    length = resources.settings.lease_seconds
    supervisor.seen = {
        name: watched(seen.get(name), sign, now, length) for name, sign in signs.items()
    }
    return {
        name: signs[name]
        for name, one in supervisor.seen.items()
        if name != resources.replica and one.stands_still(length)
    }


async def _read_directory(supervisor: Supervisor, tx: AsyncConnection) -> None:
    now = clock.now()
    # A time that is still to come is of a clock that was put back since.
    if supervisor.read_at and supervisor.read_at <= now < supervisor.read_at + READ_AGAIN:
        return
    accounts = await directory.accounts_with_passwords(tx)
    supervisor.wanted = {one.id: one for one in accounts if one.enabled and one.imap is not None}
    supervisor.read_at = now


def _to_end(supervisor: Supervisor, kept: Iterable[UUID]) -> list[UUID]:
    """Tasks of accounts that are not ours, whose account changed, or that have ended."""
    ours = set(kept)
    return [
        account
        for account, one in supervisor.attended.items()
        if account not in ours or one.account != supervisor.wanted[account] or one.task.done()
    ]


async def _stop(supervisor: Supervisor, ended: Iterable[UUID]) -> None:
    tasks = [supervisor.attended.pop(account) for account in ended]
    for one in tasks:
        one.task.cancel()
        observing.hide(one.account.id)
    if tasks:
        await asyncio.wait([one.task for one in tasks])


def _begin(supervisor: Supervisor, account: Account, held: Held | None) -> None:
    """Make sure that a task attends to the account, and wake it if somebody wants it fetched."""
    one = supervisor.attended.get(account.id)
    if one is None:
        wake = asyncio.Event()
        task = asyncio.create_task(_keep_attending(supervisor.shared, account, wake))
        wanted_at = held.fetch_wanted_at if held else None
        supervisor.attended[account.id] = Attended(account, task, wake, wanted_at)
        return
    if held and held.fetch_wanted_at != one.wanted_at:
        one.wanted_at = held.fetch_wanted_at
        one.wake.set()


async def _keep_attending(shared: Shared, account: Account, wake: asyncio.Event) -> None:
    """Attend to the account, whatever fails, until the lease is lost."""
    pause = 1.0
    while True:
        began = time.monotonic()
        try:
            await attend(shared, account, wake)
        except LeaseLost:
            log.info("lease_lost", account=account.name)
            return
        except Exception as failed:
            if database_is_away(failed):
                log.warning("account_waits_for_database", account=account.name)
                await _until_it_answers(shared.database_answers)
                continue
            # Not the server's fault: the disk is full, or it is a bug.
            log.exception("attending_failed", account=account.name, error=str(failed), again=pause)
        await asyncio.sleep(pause)
        lasted = time.monotonic() - began
        pause = 1.0 if lasted > 2 * LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)


async def _until_it_answers(database: asyncio.Event) -> None:
    """Wait for the supervisor's next turn: thousands of accounts need not each knock by itself."""
    database.clear()
    await database.wait()
