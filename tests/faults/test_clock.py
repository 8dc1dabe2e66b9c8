"""The clock jumps while everything runs: nothing is sent twice, and nothing stands still for longer
than the jump."""

from datetime import timedelta

import pytest

from tests.faults.firm import Firm
from tests.faults.mails import check, mixed, open_ticket

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
JUMPS = {
    "an hour back": [-HOUR],
    "an hour forward and back": [HOUR, -HOUR],
    "an hour back and forward": [-HOUR, HOUR],
    "a day forward and back": [24 * HOUR, -24 * HOUR],
}


@pytest.mark.parametrize(
    "jumps",
    [
        pytest.param(jumps, id=name, marks=[] if name == "an hour back" else pytest.mark.matrix)
        for name, jumps in JUMPS.items()
    ],
)
async def test_each_mail_is_one_ticket_and_each_answer_leaves_once(
    firm: Firm, mails: int, jumps: list[timedelta]
) -> None:
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older, mails)
    share = -(-len(post.messages) // (len(jumps) + 1))
    latest = firm.now
    for number, jump in enumerate([*jumps, timedelta()]):
        await firm.gets(*post.messages[number * share :][:share])
        firm.pass_time(jump)
        latest = max(latest, firm.now)
    # What waits for its time is given it, and the clock must not have to go beyond where it was
    # before but by the pauses that are there without a jump.
    assert (await check(firm, post, older)).doubtful == {}
    assert firm.now < latest + 10 * MINUTE


@pytest.mark.matrix
async def test_services_that_die_while_the_clock_is_wrong_go_on_at_once_when_they_are_started(
    firm: Firm,
) -> None:
    firm.pass_time(HOUR)
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older, count=12)
    await firm.gets(*post.messages)
    firm.kill_all()
    firm.pass_time(-HOUR)
    before = firm.now
    firm.start_missing()
    await check(firm, post, older)
    assert firm.now < before + HOUR + 10 * MINUTE
