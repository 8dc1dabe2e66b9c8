"""One replica at a time works for an account, a dead one is replaced, no clocks are compared."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from mailroom import database
from mailroom_sender.leases import Lease, LeaseLost, fence, while_held
from tests.sender.office import Office, to


async def test_a_dead_replica_is_replaced(office: Office) -> None:
    anna = office.mailbox()
    await office.ask(to=to(anna))
    await office.take_lease("send")
    async with office.sending(lease_seconds=1):
        await office.gets(anna, within=10)


async def test_a_living_replica_is_not_replaced_though_the_clock_is_moved(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        async with office.sending(replicas=2, idle_seconds=60):
            await office.ask(to=to(anna))
            await office.gets(anna, 1)
            holder = await office.lease_holder("send")
            office.move_clock(timedelta(days=1))
            await office.ask(to=to(anna))
            await office.gets(anna, 2)
            assert await office.lease_holder("send") == holder
        assert wire.connections == 1


async def test_who_stands_still_while_it_holds_the_lock_does_not_keep_it(office: Office) -> None:
    """A machine that was paused, or is gone, in the middle of a transaction."""
    anna = office.mailbox()
    await office.ask(to=to(anna))
    await office.take_lease("send")
    frozen = database.engine(office.resources.settings.database_url, "frozen", idle_within=1)
    async with frozen.connect() as tx:
        await fence(tx, Lease(office.account, "send", "another", time.monotonic() + 60))
        async with office.sending(lease_seconds=1):
            await office.gets(anna, within=10)
        await tx.invalidate()
    await frozen.dispose()


async def test_who_stood_still_for_longer_than_his_lease_does_not_even_begin() -> None:
    begun = []
    with pytest.raises(LeaseLost):
        async with while_held(Lease(uuid4(), "send", "frozen", time.monotonic() - 1)):
            begun.append("DATA")
    assert begun == []


async def test_a_lease_that_runs_out_just_before_data_is_known_and_harms_no_other_mail(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has the first mail's recipients already: to it, the next MAIL would be nested."""
    first = iter([True])

    @asynccontextmanager
    async def lost_once(lease: Lease) -> AsyncIterator[None]:
        if next(first, False):
            raise LeaseLost(lease.account, lease.work)
        async with while_held(lease):
            yield

    monkeypatch.setattr("mailroom_sender.sending.while_held", lost_once)
    anna = office.mailbox()
    keys = [await office.ask(to=to(anna)) for _ in range(2)]
    async with office.sending():
        await office.gets(anna, 1)
        rows = [await office.tried(key, 1) for key in keys]
    assert sorted(row["state"] for row in rows) == ["accepted", "sent"]
    assert [row["unknowns"] for row in rows] == [0, 0]
