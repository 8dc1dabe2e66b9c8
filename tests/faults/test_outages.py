"""Each server is away, in each way, at rest and in mid-work, for a moment and for longer than every
retry: afterwards every mail is one ticket, and every acknowledgement has left once."""

import asyncio
from itertools import product
from typing import get_args

import pytest

from deploy import local
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, Post, check, mixed
from tests.faults.outages import (
    BEYOND_EVERY_RETRY,
    BROKER_AND_DATABASE,
    RECOVERED_WITHIN,
    Bringing,
    How,
    Length,
    Outage,
    When,
    begin,
    bring_to_dovecot,
    end,
    faults_of_ours,
    is_noticed,
    older_ticket,
    recovery,
    some_are_through,
)
from tests.faults.probing import logged

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


@pytest.mark.parametrize("outage", CASES)
async def test_after_an_outage_each_mail_is_one_ticket_and_each_answer_has_left_once(
    own: OwnServers,
    healed: Firm,
    opened: list[Dialogue],
    mails: int,
    outage: Outage,
    request: pytest.FixtureRequest,
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post, since = await mixed(firm, older, mails), logged(firm)
        bringing = Bringing(firm, post.messages)
        async with asyncio.TaskGroup() as group:
            if outage.when == "in mid-work":
                bringing.may.set()
                group.create_task(bringing.bring_all())
                await some_are_through(firm, post)
            recovered = await disturbed(own, firm, outage, bringing, group, post)
        await check(firm, post, older)
    assert not [name for name, process in firm.processes.items() if process.guard.ended]
    assert not faults_of_ours(firm, since)
    print(f"\n{outage}: recovered in {recovered:.1f} s")
    if outage.server in BROKER_AND_DATABASE and request.node.get_closest_marker("matrix"):
        assert recovered <= RECOVERED_WITHIN


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
        await bringing.pause()
    since = logged(firm)
    await asyncio.to_thread(begin, own, outage)
    if can_bring:
        bringing.may.set()
    if outage.when == "at rest":
        if outage.server == "postfix":
            await bring_to_dovecot(firm, post.messages)
        else:
            group.create_task(bringing.bring_all())
    if outage.length == "long":
        await is_noticed(firm, outage.server, since)
        firm.pass_time(BEYOND_EVERY_RETRY)
    answered = await asyncio.to_thread(end, own, outage)
    bringing.may.set()
    return await recovery(firm, post, answered)
