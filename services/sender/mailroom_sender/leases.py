"""One replica at a time works for an account: leases, and the tasks that hold them.

Invariant: whoever works has renewed his lease within `lease_seconds` by his own clock, and whoever
takes over has watched it stand still for that long by his own: no two clocks are compared, and
moving one does no harm. What must not happen twice begins in a transaction that has `fence`d, and
goes on only `while_held`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, DateTime, Select, bindparam, exists, or_, select, true, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, waiting
from mailroom.crashpoints import crashpoint
from mailroom.messaging.failures import DatabaseAway, database_is_away, describe
from mailroom.messaging.presence import begin
from mailroom.messaging.stopping import end_if_cancelled
from mailroom.service import Resources
from mailroom.standstill import Seen, watched
from mailroom_sender.logins import REFUSED_REST
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import copies, leases, requests
from mailroom_sender.waking import listen

log = structlog.get_logger("mailroom.sender.leases")

RELEASE_WITHIN = 2.0
"""Seconds to let go of a lease; else others wait until it has stood still for long enough."""
LONGEST_REST = 60.0
"""Seconds that an account rests at most after its task failed unexpectedly."""

Work = Literal["send", "file"]


class LeaseLost(Exception):
    """Another replica works for the account, or might: stop."""

    def __init__(self, account: UUID, work: Work) -> None:
        self.account, self.work = account, work
        super().__init__(f"lost the lease to {work} for account {account}")


_FENCE = (
    select(true())
    .where(
        leases.c.account == bindparam("account"),
        leases.c.work == bindparam("work"),
        leases.c.holder == bindparam("holder"),
    )
    .with_for_update(read=True)
)


@dataclass(eq=False)
class Lease:
    """The right to work for an account, for now."""

    account: UUID
    work: Work
    holder: str
    deadline: float
    """By the monotonic clock: from then on another may have taken it."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something of the account is due."""
    running: asyncio.Timeout | None = None

    @property
    def may_be_lost(self) -> bool:
        """Whether another may have taken it."""
        return time.monotonic() > self.deadline


Run = Callable[[Resources[SenderSettings], Lease], Awaitable[None]]
"""Work for one account; returns when there has been nothing to do for a while."""


@dataclass
class _Attended:
    held: dict[UUID, Lease] = field(default_factory=dict)
    seen: dict[UUID, Seen] = field(default_factory=dict)
    rests: dict[UUID, float] = field(default_factory=dict)
    """Seconds of rest after the last failure."""
    rests_until: dict[UUID, float] = field(default_factory=dict)


async def attend(resources: Resources[SenderSettings], work: Work, run: Run) -> None:
    """Run `run` for each account that has something due and that nobody else works for."""
    attended, heard = _Attended(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(resources.settings.database_url, heard))
        while True:
            end_if_cancelled()
            heard.clear()
            for lease in await _take(resources, work, attended):
                crashpoint("sender.lease_taken", work)
                attended.held[lease.account] = lease
                group.create_task(_hold(resources, lease, run, attended))
            await waiting.is_set(heard, within=resources.settings.poll_seconds)


async def fence(tx: AsyncConnection, lease: Lease) -> None:
    """Hold the lease until `tx` ends: nobody can take it before. Raises LeaseLost."""
    given = {"account": lease.account, "work": lease.work, "holder": lease.holder}
    if not await tx.scalar(_FENCE, given) or lease.may_be_lost:
        raise LeaseLost(lease.account, lease.work)


async def rest(tx: AsyncConnection, lease: Lease, until: datetime) -> None:
    """Leave the account's server alone until then, whatever else falls due.

    A server that is down is not knocked at for each new mail, and one that refuses a password does
    not lock the account for the hundredth try.
    """
    await tx.execute(_mine(lease).values(rests_until=until))


@asynccontextmanager
async def while_held(lease: Lease) -> AsyncIterator[None]:
    """Do what is inside only as long as nobody else can have the lease. Raises LeaseLost."""
    # A timeout that has passed already would let it go on up to where it first waits.
    if lease.may_be_lost:
        raise LeaseLost(lease.account, lease.work)
    try:
        async with asyncio.timeout_at(lease.deadline) as lease.running:
            yield
    except TimeoutError:
        if lease.running is not None and lease.running.expired():
            raise LeaseLost(lease.account, lease.work) from None
        raise
    finally:
        lease.running = None


async def woken(lease: Lease, seconds: float) -> bool:
    """Wait until something is due, `seconds` at most; whether it is."""
    if not await waiting.is_set(lease.wake, within=seconds):
        return False
    lease.wake.clear()
    return True


async def _take(
    resources: Resources[SenderSettings], work: Work, attended: _Attended
) -> list[Lease]:
    """Wake the tasks of accounts that have something due; take the leases of the others."""
    limit, taken = resources.settings.lease_seconds, []
    try:
        async with begin(resources.engine) as tx:
            for account, holder, beat in await _due(tx, work, clock.now()):
                now = time.monotonic()
                if account in attended.held:
                    attended.held[account].wake.set()
                    continue
                seen = watched(attended.seen.get(account), (holder, beat), now, limit)
                attended.seen[account] = seen
                is_free = holder is None or seen.stands_still(limit)
                if is_free and attended.rests_until.get(account, 0) < now:
                    lease = Lease(account, work, resources.replica, now + limit)
                    if await _grab(tx, lease, holder, beat):
                        taken.append(lease)
    except Exception as error:
        if not database_is_away(error):
            raise
        log.warning("database_away", work=work, problem=describe(error))
        return []
    return taken


async def _due(
    tx: AsyncConnection, work: Work, now: datetime
) -> list[tuple[UUID, str | None, int]]:
    rows = await tx.execute(_DUE[work], {"now": now, "longest": now + REFUSED_REST})
    return [(row.account, row.holder, row.beat) for row in rows]


def _due_for(work: Work) -> Select[Any]:
    table = requests if work == "send" else copies
    now = bindparam("now", type_=DateTime(timezone=True))
    rested = or_(
        leases.c.rests_until.is_(None),
        leases.c.rests_until <= now,
        # Nobody rests so long: the clock was put back.
        leases.c.rests_until > bindparam("longest"),
    )
    wanted: ColumnElement[bool] = rested & exists().where(
        table.c.account == leases.c.account, table.c.due <= now
    )
    if work == "send":
        # Somebody died between the commit before DATA and the one after it.
        wanted |= exists().where(
            requests.c.account == leases.c.account, requests.c.state == "sending"
        )
    found = select(leases.c.account, leases.c.holder, leases.c.beat)
    return found.where(leases.c.work == work, wanted)


_DUE: dict[Work, Select[Any]] = {"send": _due_for("send"), "file": _due_for("file")}


async def _grab(tx: AsyncConnection, lease: Lease, holder: str | None, beat: int) -> bool:
    """Take a lease as it was seen, unless it has changed, or somebody has locked it."""
    this = (leases.c.account == lease.account) & (leases.c.work == lease.work)
    unchanged = leases.c.holder.is_not_distinct_from(holder) & (leases.c.beat == beat)
    seen = select(leases.c.account).where(this, unchanged).with_for_update(skip_locked=True)
    grabbed = await tx.execute(
        update(leases)
        .where(this, leases.c.account.in_(seen))
        .values(holder=lease.holder, beat=leases.c.beat + 1)
    )
    return grabbed.rowcount == 1


async def _hold(
    resources: Resources[SenderSettings], lease: Lease, run: Run, attended: _Attended
) -> None:
    """Work while renewing. What goes wrong for one account is told, and disturbs no other."""
    keeper = asyncio.create_task(_renew(resources, lease))
    try:
        await run(resources, lease)
        attended.rests.pop(lease.account, None)
    except LeaseLost as lost:
        log.warning("lease_lost", account=str(lost.account), work=lost.work)
    except Exception as failed:
        if database_is_away(failed):
            log.warning("account_waits_for_database", account=str(lease.account), work=lease.work)
        else:
            log.exception("account_failed", account=str(lease.account), work=lease.work)
        pause = 1.0 if database_is_away(failed) else attended.rests.get(lease.account, 0.5) * 2
        attended.rests[lease.account] = min(pause, LONGEST_REST)
        attended.rests_until[lease.account] = time.monotonic() + attended.rests[lease.account]
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
        await _release(resources, lease)
        del attended.held[lease.account]


async def _renew(resources: Resources[SenderSettings], lease: Lease) -> None:
    """Show signs of life, three a lease, until cancelled or somebody else has it."""
    seconds = resources.settings.lease_seconds
    while True:
        await asyncio.sleep(seconds / 3)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(seconds / 3), begin(resources.engine) as tx:
                renewed = await tx.execute(_mine(lease).values(beat=leases.c.beat + 1))
        except (SQLAlchemyError, DatabaseAway, TimeoutError) as error:
            log.warning("lease_not_renewed", account=str(lease.account), problem=describe(error))
            continue
        lease.deadline = begun + seconds if renewed.rowcount == 1 else begun
        if lease.running is not None:
            lease.running.reschedule(lease.deadline)


async def _release(resources: Resources[SenderSettings], lease: Lease) -> None:
    try:
        async with asyncio.timeout(RELEASE_WITHIN), begin(resources.engine) as tx:
            await tx.execute(_mine(lease).values(holder=None, beat=leases.c.beat + 1))
    except (SQLAlchemyError, DatabaseAway, TimeoutError) as error:
        # It is taken over when it has stood still for long enough.
        log.warning("lease_not_released", account=str(lease.account), problem=describe(error))


def _mine(lease: Lease) -> Any:
    return update(leases).where(
        leases.c.account == lease.account,
        leases.c.work == lease.work,
        leases.c.holder == lease.holder,
    )
