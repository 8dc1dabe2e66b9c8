"""PostgreSQL takes no rows (SQLSTATE 25006), as a standby after a failover, and answers else."""

import asyncio
import time

import pytest

from deploy.local.postgresql import execute
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, check, mixed
from tests.faults.outages import (
    BEYOND_EVERY_RETRY,
    RECOVERED_WITHIN,
    Length,
    faults_of_ours,
    older_ticket,
    recovery,
)
from tests.faults.probing import faults, logged
from tests.waiting import until


@pytest.mark.parametrize("length", ["short", pytest.param("long", marks=pytest.mark.matrix)])
async def test_what_a_read_only_database_does_not_take_is_taken_when_it_can_be_written_again(
    own: OwnServers, healed: Firm, opened: list[Dialogue], mails: int, length: Length
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post, since = await mixed(firm, older, mails), logged(firm)
        await asyncio.to_thread(be_read_only, own, firm)
        try:
            await firm.gets(*post.messages)
            if length == "long":
                await all_say_so(firm)
                firm.pass_time(BEYOND_EVERY_RETRY)
        finally:
            answered = await asyncio.to_thread(be_writable, own, firm)
        recovered = await recovery(firm, post, answered)
        await check(firm, post, older)
        assert not faults_of_ours(firm, since)
    print(f"\nread-only, {length}: recovered in {recovered:.1f} s")
    if length == "long":
        assert recovered <= RECOVERED_WITHIN


def be_read_only(own: OwnServers, firm: Firm) -> None:
    name = firm.database.name
    everybody = f"pg_stat_activity WHERE datname = '{name}'"
    execute(
        own.servers,
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        f"SELECT pg_terminate_backend(pid) FROM {everybody}",  # noqa: S608
    )


def be_writable(own: OwnServers, firm: Firm) -> float:
    """When it is, by the monotonic clock; connections that are open stay as they are."""
    name = firm.database.name
    execute(own.servers, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    return time.monotonic()


async def all_say_so(firm: Firm) -> None:
    """By /readyz."""

    async def say() -> bool:
        found = await asyncio.to_thread(faults, firm)
        assert found.keys() == firm.processes.keys(), found
        return all("read-only" in why for why in found.values())

    await until(say, within=PATIENCE)
