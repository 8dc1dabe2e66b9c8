"""Each server is away, in each way, at rest and in mid-work, for a moment and for longer than every
retry: afterwards every mail is one ticket, and every acknowledgement has left once."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import get_args

import pytest

from deploy import local
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, Post, check, mixed, open_ticket
from tests.faults.outages import (
    BEYOND_EVERY_RETRY,
    BROKER_AND_DATABASE,
    Bringing,
    How,
    Length,
    Outage,
    When,
    are_ready,
    begin,
    bring_to_dovecot,
    end,
    is_noticed,
    through,
)
from tests.faults.probing import logged
from tests.waiting import until

RECOVERED_WITHIN = 10.0
"""Seconds from the server's first answer until all is ready and the first mail moves on."""

ALL = [
    Outage(server, how, when, length)
    for server, how, when, length in product(
        get_args(local.ServerName), get_args(How), get_args(When), get_args(Length)
    )
]
ALWAYS = {
    "rabbitmq-killed-in-mid-work-short",
    "postgresql-stopped-at-rest-long",
    "dovecot-reset-in-mid-work-long",
    "postfix-stopped-at-rest-long",
}
CASES = [
    pytest.param(each, id=str(each), marks=[] if str(each) in ALWAYS else pytest.mark.matrix)
    for each in ALL
]


@pytest.fixture
def healed(own: OwnServers, own_firm: Firm) -> Iterator[Firm]:
    """The firm on its own servers, all of which run; and they do again afterwards."""
    own.heal()
    own_firm.start_missing()
    yield own_firm
    own.heal()


@pytest.fixture(scope="session")
def opened() -> list[Dialogue]:
    """A ticket that a case has left as it should be, for the next one."""
    return []


@asynccontextmanager
async def older_ticket(firm: Firm, opened: list[Dialogue]) -> AsyncIterator[Dialogue]:
    """A ticket that is there; a case that fails leaves none for the next one."""
    await are_ready(firm)
    older = opened.pop() if opened else await open_ticket(firm)
    yield older
    opened.append(older)


@pytest.mark.parametrize("outage", CASES)
async def test_after_an_outage_each_mail_is_one_ticket_and_each_answer_has_left_once(
    own: OwnServers,
    healed: Firm,
    opened: list[Dialogue],
    outage: Outage,
    request: pytest.FixtureRequest,
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post = await mixed(firm, older)
        bringing = Bringing(firm, post.messages)
        async with asyncio.TaskGroup() as group:
            if outage.when == "in mid-work":
                bringing.may.set()
                group.create_task(bringing.bring_all())
                await some_are_through(firm, post)
            recovered = await disturbed(own, firm, outage, bringing, group, post)
        await check(firm, post, older)
    assert not [name for name, process in firm.processes.items() if process.guard.ended]
    print(f"\n{outage}: recovered in {recovered:.1f} s")
    if outage.server in BROKER_AND_DATABASE and request.node.get_closest_marker("matrix"):
        assert recovered <= RECOVERED_WITHIN


async def some_are_through(firm: Firm, post: Post, number: int = 5) -> None:
    async def some() -> bool:
        return len(await through(firm, post)) >= number

    await until(some, within=30)


async def disturbed(
    own: OwnServers,
    firm: Firm,
    outage: Outage,
    bringing: Bringing,
    group: asyncio.TaskGroup,
    post: Post,
) -> float:
    """The server goes and comes back; seconds from then until all goes on."""
    # A customer's server cannot bring anything while ours is away.
    can_bring = outage.server in BROKER_AND_DATABASE
    if not can_bring:
        bringing.may.clear()
    since = logged(firm)
    await asyncio.to_thread(begin, own, outage)
    if outage.when == "at rest":
        group.create_task(bringing.bring_all())
        if can_bring:
            bringing.may.set()
        elif outage.server == "postfix":
            await bring_to_dovecot(firm, post.messages)
            bringing.messages = ()
    if outage.length == "long":
        await is_noticed(firm, outage.server, since)
        firm.pass_time(BEYOND_EVERY_RETRY)
    answered = await asyncio.to_thread(end, own, outage)
    bringing.may.set()
    return await recovery(firm, post, answered)


async def recovery(firm: Firm, post: Post, answered: float) -> float:
    """Seconds from `answered` until all services are ready and the first waiting mail moves on."""
    before = await through(firm, post)
    await are_ready(firm)

    async def moves() -> bool:
        there = await through(firm, post)
        return there > before or len(there) == len(post.mails)

    await until(moves, within=30)
    return time.monotonic() - answered
