"""What lasts: an outage that no try outlives is told as failure; one that lasts by the real clock
delays nothing after its end; a line that went dead without a word is replaced."""

import asyncio
import json
import time
from datetime import timedelta

import pytest

from deploy import local
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, check, known_as, mixed
from tests.faults.outages import (
    RECOVERED_WITHIN,
    bring_to_dovecot,
    has_logged,
    number,
    older_ticket,
    recovery,
    through,
)
from tests.faults.probing import logged
from tests.waiting import until

BEYOND_PATIENCE = timedelta(days=4)
"""A mail is tried for three days."""
LONGER_THAN_THE_PAUSES_GROW = 40.0
"""Seconds of the real clock: pauses that were doubled each time would be half a minute long."""


async def test_what_cannot_leave_for_longer_than_it_is_tried_is_shown_as_failed_at_its_ticket(
    own: OwnServers, healed: Firm, opened: list[Dialogue]
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post = await mixed(firm, older, count=1)
        since = logged(firm)
        await asyncio.to_thread(local.stop, own.servers, "postfix")
        await bring_to_dovecot(firm, post.messages)
        await until(lambda: has_logged(firm, "server_unreachable", since), within=PATIENCE)
        firm.pass_time(BEYOND_PATIENCE)

        async def is_shown() -> bool:
            facts = await told(firm, known_as(post.messages[0]))
            return [fact["what"] for fact in facts] == ["failed"]

        await until(is_shown, within=PATIENCE)
        await asyncio.to_thread(local.start, own.servers, "postfix")
        assert not firm.folder(post.customers[0])


async def told(firm: Firm, message_id: str) -> list[dict[str, str]]:
    """What its ticket tells of the acknowledgement of a mail."""
    query = "SELECT coalesce(max(ticket), 0) FROM ticketing.mail WHERE message_id = $1"
    ticket = await number(firm, query, message_id)
    if not ticket:
        return []
    shown = json.loads(await firm.asks("ticket", "show", str(ticket), "--json"))
    return [fact for entry in shown["dialogue"] for fact in entry["told"]]


@pytest.mark.matrix
@pytest.mark.parametrize("server", ["rabbitmq", "postgresql"])
async def test_however_long_an_outage_lasted_all_goes_on_soon_after_it(
    own: OwnServers, healed: Firm, opened: list[Dialogue], server: local.ServerName
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        post = await mixed(firm, older)
        began = time.monotonic()
        own.proxy_of(server).refuse()
        await firm.gets(*post.messages)
        await until(
            lambda: time.monotonic() - began > LONGER_THAN_THE_PAUSES_GROW, within=2 * PATIENCE
        )
        own.proxy_of(server).heal()
        recovered = await recovery(firm, post, time.monotonic())
        await check(firm, post, older)
    print(f"\n{server} away for {LONGER_THAN_THE_PAUSES_GROW:g} s: recovered in {recovered:.1f} s")
    assert recovered <= RECOVERED_WITHIN


@pytest.mark.matrix
async def test_lines_to_rabbitmq_that_went_dead_without_a_word_are_replaced(
    own: OwnServers, healed: Firm, opened: list[Dialogue]
) -> None:
    """Also those that were just being made: by default they would be waited for, for ever."""
    firm, line = healed, own.amqp
    async with older_ticket(firm, opened) as older:
        post = await mixed(firm, older)
        line.blackhole()
        line.reset()
        services = len(firm.processes)
        await until(lambda: line.open_connections >= 3 * services, within=PATIENCE)
        line.forget()
        forgotten = time.monotonic()
        await firm.gets(*post.messages)

        async def all_through() -> bool:
            return len(await through(firm, post)) == len(post.mails)

        await until(all_through, within=2 * PATIENCE)
        await check(firm, post, older)
    print(f"\ndead lines: replaced in {time.monotonic() - forgotten:.1f} s")
