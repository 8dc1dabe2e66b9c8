"""RabbitMQ is short of memory: it neither confirms what is published nor refuses it, for ever."""

import asyncio
import time

import pytest

from deploy import local
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, check, mixed
from tests.faults.outages import (
    BEYOND_EVERY_RETRY,
    RECOVERED_WITHIN,
    Length,
    faults_of_ours,
    has_logged,
    older_ticket,
    recovery,
)
from tests.faults.probing import logged
from tests.waiting import until


def be_short_of_memory(own: OwnServers) -> None:
    local.rabbitmqctl(own.servers, "set_vm_memory_high_watermark", "absolute", "1MB")


def have_memory(own: OwnServers) -> float:
    """When it has, by the monotonic clock."""
    local.rabbitmqctl(own.servers, "set_vm_memory_high_watermark", "0.6")
    return time.monotonic()


@pytest.mark.parametrize("length", ["short", pytest.param("long", marks=pytest.mark.matrix)])
async def test_what_rabbitmq_does_not_take_waits_in_the_outbox_until_it_has_memory_again(
    own: OwnServers, healed: Firm, opened: list[Dialogue], mails: int, length: Length
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post = await mixed(firm, older, mails)
        since = logged(firm)
        await asyncio.to_thread(be_short_of_memory, own)
        try:
            await firm.gets(*post.messages)
            if length == "long":
                await until(lambda: has_logged(firm, "relay_waits", since), within=PATIENCE)
                firm.pass_time(BEYOND_EVERY_RETRY)
        finally:
            answered = await asyncio.to_thread(have_memory, own)
        recovered = await recovery(firm, post, answered)
        await check(firm, post, older)
        assert not faults_of_ours(firm, since)
    print(f"\nmemory alarm, {length}: recovered in {recovered:.1f} s")
    if length == "long":
        assert recovered <= RECOVERED_WITHIN
