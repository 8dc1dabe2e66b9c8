"""Replicas share the accounts under leases; a dead one is replaced, and cannot write any more."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mailroom import clock, database, imap, tls
from mailroom_fetcher import leases, store
from mailroom_fetcher.bringing import Bringer, bring
from mailroom_fetcher.budget import Budget
from mailroom_fetcher.leases import Lease, LeaseLost, fair_share
from mailroom_fetcher.ledger import Place
from tests.fetcher.office import (
    START,
    Office,
    a_mail,
    add_account,
    brought,
    change_account,
    fetch_now,
    holders,
    ledger,
    observed,
    other_client,
    process,
    put_mail,
    received,
    remove_account,
    replica,
)
from tests.local.mail import PASSWORD
from tests.waiting import until


@pytest.mark.parametrize(
    ("wanted", "alive", "share"), [(0, 1, 0), (5, 1, 5), (5, 2, 3), (4, 2, 2), (1, 3, 1), (5, 0, 5)]
)
def test_shares_are_equal_and_cover_all(wanted: int, alive: int, share: int) -> None:
    assert fair_share(wanted, alive) == share


async def _held(office: Office, **wanted: int) -> bool:
    held = Counter(holder for holder in (await holders(office)).values() if holder)
    assert held == Counter(wanted), held
    return True


async def test_two_replicas_share_the_accounts_and_each_mail_comes_once(office: Office) -> None:
    accounts = [await add_account(office, f"account-{number}") for number in range(4)]
    for account in accounts:
        with other_client(office, account) as client:
            put_mail(client, a_mail(account.name))
    async with replica(office, "one", lease_seconds=1):
        await until(lambda: _held(office, one=4))
        async with replica(office, "two", lease_seconds=1):
            await until(lambda: _held(office, one=2, two=2))
            for account in accounts:
                with other_client(office, account) as client:
                    put_mail(client, a_mail(f"again {account.name}"))
                await fetch_now(office, account)
            await brought(office, 8)
        # It let go of its accounts: nobody waits for the leases to run out.
        await until(lambda: _held(office, one=4), within=2)
    await until(lambda: _held(office), within=1)
    assert len(await received(office)) == len(await ledger(office)) == 8


async def test_a_killed_replica_is_replaced_within_twice_its_lease(office: Office) -> None:
    lease = 2
    account = await add_account(office, "service")
    async with process(office, "doomed", lease_seconds=lease) as doomed:
        await until(lambda: _held(office, doomed=1), within=20)
        async with replica(office, "heir", lease_seconds=lease):
            await until(lambda: _held(office, doomed=1))
            with other_client(office, account) as client:
                put_mail(client, a_mail("before"))
            await brought(office, 1, within=20)
            doomed.kill()
            killed_at = time.monotonic()
            with other_client(office, account) as client:
                put_mail(client, a_mail("after"))
            await brought(office, 2, within=20)
            await until(lambda: _held(office, heir=1), within=20)
            assert time.monotonic() - killed_at < 2 * lease + 1  # and the fetching itself


async def test_a_dead_replica_is_replaced_though_the_clock_goes_back_an_hour(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service")
    async with process(office, "doomed", lease_seconds=1) as doomed:
        await until(lambda: _held(office, doomed=1), within=20)
        doomed.kill()
    clock_offset(-3600)
    with other_client(office, account) as client:
        put_mail(client, a_mail("after"))
    async with replica(office, "heir", lease_seconds=1):
        await brought(office, 1, within=20)


async def test_a_living_replica_keeps_its_accounts_though_the_clock_jumps(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    for number in range(4):
        await add_account(office, f"account-{number}")
    async with replica(office, "one", lease_seconds=1), replica(office, "two", lease_seconds=1):
        await until(lambda: _held(office, one=2, two=2))
        before = await holders(office)
        for jump in (timedelta(days=1), timedelta(hours=-1)):
            clock_offset(jump.total_seconds())
            # The first turn may have begun before, and the second is by the new clock.
            await _all_take_a_turn(office)
            await _all_take_a_turn(office)
            assert await holders(office) == before


async def test_who_stands_still_while_it_holds_the_lock_does_not_keep_it(office: Office) -> None:
    """A machine that was paused, or is gone, in the middle of a transaction."""
    account = await add_account(office, "service")
    frozen = database.engine(office.resources("").settings.database_url, "frozen", idle_within=0.5)
    async with office.engine.begin() as tx:
        await leases.alive(tx, "frozen", clock.now(), timedelta(seconds=1))
        await leases.claim(tx, "frozen", [account.id], 1)
    async with frozen.connect() as tx:
        await leases.hold(tx, Lease(account.id, "frozen"))
        async with replica(office, "heir", lease_seconds=1):
            await until(lambda: _held(office, heir=1))
        with pytest.raises(DBAPIError, match="closed"):
            await leases.hold(tx, Lease(account.id, "frozen"))
        await tx.invalidate()
    await frozen.dispose()


async def test_a_holder_whose_lease_was_taken_stops_before_it_writes(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    async with replica(office, "one"):
        await brought(office, 1)
    lease = Lease(account.id, "former")
    connection = await _connected(office, account.address)
    opened = await imap.examine(connection, "INBOX")
    async with office.engine.begin() as tx:
        row = await store.folder(tx, account.id, "Elsewhere")
        await leases.claim(tx, "another", [account.id], 1)
    place = Place(account.id, START, row.id, "Elsewhere", "other", opened.uidvalidity)
    bringer = Bringer(office.resources("former"), Budget(10), lease)
    with pytest.raises(LeaseLost):
        await bring(bringer, connection, place, [1])
    imap.close(connection)
    assert len(await ledger(office)) == len(await received(office)) == 1


@asynccontextmanager
async def living(office: Office, name: str) -> AsyncIterator[None]:
    """Another replica, which shows that it lives and does nothing else."""

    async def lives() -> bool:
        async with office.engine.begin() as tx:
            await leases.alive(tx, name, clock.now(), timedelta(seconds=1))
        return False

    await lives()
    beats = asyncio.create_task(until(lives, within=60, every=0.1))
    yield
    beats.cancel()
    await asyncio.wait({beats})


async def test_a_running_replica_ends_its_task_when_the_lease_is_taken(office: Office) -> None:
    account = await add_account(office, "service")
    async with replica(office, "one", lease_seconds=1), living(office, "another"):
        await until(lambda: observed(office, account))
        async with office.engine.begin() as tx:
            # As another replica does that finds ours standing still, because it was asleep.
            await tx.execute(update(store.accounts).values(holder="another"))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await until(lambda: _held(office, another=1))
        await fetch_now(office, account)
        with pytest.raises(AssertionError):
            await brought(office, 1, within=2)
        assert await ledger(office) == []


async def test_a_replica_that_lost_its_connections_to_the_database_goes_on(office: Office) -> None:
    account = await add_account(office, "service")
    async with process(office, "one", lease_seconds=1):
        await until(lambda: observed(office, account), within=20)
        superuser = await asyncpg.connect(office.database.superuser_url)
        ended = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE usename = $1 AND datname = current_database()
        """
        for _ in range(2):
            await superuser.execute(ended, "mailroom_fetcher")
        await superuser.close()
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))

        async def fetched() -> bool:
            try:
                await fetch_now(office, account)
                return bool(await received(office))
            except SQLAlchemyError:
                return False

        await until(fetched, within=20)


async def test_accounts_are_picked_up_and_let_go_as_the_directory_says(office: Office) -> None:
    async with replica(office, "one"):
        account = await add_account(office, "service")
        await change_account(office, account)
        await until(lambda: _held(office, one=1), within=3)
        await change_account(office, account, enabled=False)
        await until(lambda: _held(office), within=3)
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await change_account(office, account, enabled=True)
        await brought(office, 1, within=5)
        await remove_account(office, account)
        await change_account(office, account)
        await until(lambda: _held(office), within=3)


async def test_an_account_that_nobody_told_of_is_found(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    async with replica(office, "one", lease_seconds=1):
        await until(lambda: _alive(office))
        account = await add_account(office, "service")
        clock_offset(31)
        await until(lambda: _held(office, one=1), within=5)
        assert list(await holders(office)) == [account.id]


async def _last_signs(office: Office) -> dict[str, datetime]:
    async with office.engine.begin() as tx:
        return {row.name: row.alive_until for row in await tx.execute(store.replicas.select())}


async def _all_take_a_turn(office: Office) -> None:
    before = await _last_signs(office)

    async def have_told() -> bool:
        now = await _last_signs(office)
        assert now.keys() == before.keys()
        return all(now[name] != sign for name, sign in before.items())

    await until(have_told)


async def _alive(office: Office) -> bool:
    async with office.engine.begin() as tx:
        return (await tx.execute(store.replicas.select())).first() is not None


async def _connected(office: Office, address: str) -> imap.Connection:
    login = imap.Login("localhost", office.servers.dovecot.imaps, "implicit", address, PASSWORD)
    return await imap.connect(login, tls.client_context(office.servers.ca_file))
