"""Who holds which account: the leases by which replicas share the work.

A replica says that it lives, for the length of a lease; its accounts are held as long as it does.
One row is renewed for all of them: two thousand rows every few seconds would be as many dead ones.

Invariant: an account has one holder at a time, and only its holder writes to its ledger: `hold`
locks the lease in the writing transaction, so that a lease taken over stops the former holder. No
two clocks are compared: a replica is dead when another has watched it stand still for a lease.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy import Uuid, bindparam, delete, func, or_, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.arrays import rows_of
from mailroom_fetcher.store import accounts, replicas


class LeaseLost(Exception):
    """Another replica holds this account now; what was about to be written is not."""

    def __init__(self, account: UUID) -> None:
        self.account = account
        super().__init__(f"account {account} is held by another replica now")


@dataclass(frozen=True)
class Lease:
    """This replica's hold on an account."""

    account: UUID
    holder: str


@dataclass(frozen=True)
class Held:
    """An account that this replica holds, and when somebody last wanted it fetched at once."""

    account: UUID
    fetch_wanted_at: datetime | None


def fair_share(wanted: int, replicas_alive: int) -> int:
    """How many of the accounts one replica holds at most."""
    return ceil(wanted / max(replicas_alive, 1))


_OURS = (
    select(accounts.c.account)
    .where(accounts.c.account == bindparam("account"), accounts.c.holder == bindparam("holder"))
    .with_for_update(key_share=True)
)


async def hold(tx: AsyncConnection, lease: Lease) -> None:
    """Lock the lease until `tx` ends. Raises LeaseLost."""
    given = {"account": lease.account, "holder": lease.holder}
    if (await tx.execute(_OURS, given)).first() is None:
        raise LeaseLost(lease.account)


async def alive(
    tx: AsyncConnection, name: str, now: datetime, length: timedelta
) -> dict[str, datetime]:
    """Show that this replica lives; the latest sign of each, by its name.

    The sign is a time, for people to read: until then it lives, by its own clock.
    """
    statement = insert(replicas).values(name=name, alive_until=now + length)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"alive_until": statement.excluded.alive_until}
        )
    )
    return {row.name: row.alive_until for row in await tx.execute(select(replicas))}


async def bury(tx: AsyncConnection, dead: Mapping[str, datetime]) -> None:
    """Forget replicas, unless they have given another sign of life since these."""
    still = tuple_(replicas.c.name, replicas.c.alive_until).in_(list(dead.items()))
    # One that is about to give another sign holds its row, and lives.
    found = select(replicas.c.name).where(still).with_for_update(skip_locked=True)
    await tx.execute(delete(replicas).where(replicas.c.name.in_(found)))


async def held_by(tx: AsyncConnection, holder: str) -> dict[UUID, Held]:
    """What this replica holds: what it claimed, and nobody took over."""
    found = select(accounts.c.account, accounts.c.fetch_wanted_at).where(
        accounts.c.holder == holder
    )
    return {row.account: Held(row.account, row.fetch_wanted_at) for row in await tx.execute(found)}


_WANTED = rows_of("wanted", Uuid)
_A_FREE_ONE = (
    select(true())
    .select_from(_WANTED.outerjoin(accounts, accounts.c.account == _WANTED.c.value))
    # No row, or no holder, is no living holder.
    .where(func.coalesce(accounts.c.holder, "").not_in(select(replicas.c.name)))
    .limit(1)
)


async def claim(
    tx: AsyncConnection, holder: str, wanted: Sequence[UUID], at_most: int
) -> list[UUID]:
    """Take over up to `at_most` of the wanted accounts that nobody holds, or a dead replica."""
    # Where accounts cannot be shared out evenly, one replica looks for another at each turn.
    if not await tx.scalar(_A_FREE_ONE, {"wanted": wanted}):
        return []
    await tx.execute(
        insert(accounts).on_conflict_do_nothing(), [{"account": one} for one in sorted(wanted)]
    )
    living = select(replicas.c.name)
    free = (
        select(accounts.c.account)
        .where(
            accounts.c.account.in_(wanted),
            or_(accounts.c.holder.is_(None), accounts.c.holder.not_in(living)),
        )
        .order_by(accounts.c.account)
        .limit(at_most)
        .with_for_update(skip_locked=True, key_share=True)
    )
    taken = await tx.execute(
        update(accounts)
        .where(accounts.c.account.in_(free))
        .values(holder=holder)
        .returning(accounts.c.account)
    )
    return list(taken.scalars())


async def release(tx: AsyncConnection, holder: str, released: Sequence[UUID]) -> None:
    """Let go of accounts, so that others need not wait for the leases to run out."""
    await tx.execute(
        update(accounts)
        .where(accounts.c.holder == holder, accounts.c.account.in_(released))
        .values(holder=None)
    )


async def leave(tx: AsyncConnection, holder: str) -> None:
    """Let go of everything: this replica ends."""
    await tx.execute(update(accounts).where(accounts.c.holder == holder).values(holder=None))
    await tx.execute(delete(replicas).where(replicas.c.name == holder))


async def want_fetched(tx: AsyncConnection, wanted: Iterable[UUID], now: datetime) -> None:
    """Have accounts fetched at once by whoever holds them; locks their rows until `tx` ends."""
    statement = insert(accounts)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["account"],
            set_={"fetch_wanted_at": statement.excluded.fetch_wanted_at},
        ),
        # In one order, so that two such transactions wait for each other, but never both.
        [{"account": one, "fetch_wanted_at": now} for one in sorted(set(wanted))],
    )
