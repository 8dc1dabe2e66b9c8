"""A lease is lost while its holder still lives: frozen (SIGSTOP) for longer than it, replaced, and
thawed. It notices, writes no more, and sends nothing again that another took over."""

import asyncio
from datetime import timedelta
from email.message import EmailMessage
from signal import SIGSTOP

import asyncpg
import pytest

from mailroom.messaging.addresses import HEARTBEAT
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, Post, check, mixed, open_ticket
from tests.faults.model import Seen
from tests.faults.readiness import has_worked, is_ready, logged
from tests.faults.traps import Said, client
from tests.installation import service_names
from tests.waiting import until

# RabbitMQ takes three quarters of a minute to miss a frozen one. What is quick stands in
# tests/fetcher/test_sharing.py and tests/sender/test_leases.py.
pytestmark = pytest.mark.matrix

FETCHER = [
    "fetcher.objects_written",
    # Within the transaction that holds the lease's lock: PostgreSQL ends it.
    "fetcher.ledger_written",
    "fetcher.ledger_committed",
]
SENDER = {
    # Nobody knows whether it was sent, and it was not; the holder must not do it now.
    "sender.sending_committed": [1],
    # Nobody knows whether it was sent, and it was.
    "sender.data_answered": [2],
    # It is known: the outcome is committed.
    "sender.outcome_committed": [],
}
"""The mails that are unknown afterwards, and how often each lies in its customer's inbox."""


@pytest.mark.parametrize("crashpoint", FETCHER)
async def test_a_fetcher_that_was_frozen_finds_its_accounts_taken_and_writes_no_more(
    firm: Firm, crashpoint: str
) -> None:
    older = await _opened(firm)
    post = await mixed(firm, older)
    first, rest = post.messages[:10], post.messages[10:]
    firm.start("fetcher", crashpoint, number=SIGSTOP)
    await firm.gets(*first)
    await firm.is_frozen("fetcher")
    with firm.second("fetcher"):
        await firm.gets(*rest)
        # Before it is thawed: nobody waits for it.
        await check(firm, post, older)
        await _thaws_and_works(firm, "fetcher", post, older)


@pytest.mark.parametrize("crashpoint", SENDER)
async def test_a_sender_that_was_frozen_sends_nothing_again_that_another_took_over(
    firm: Firm, crashpoint: str
) -> None:
    older = await _opened(firm)
    post = await mixed(firm, older)
    first, rest = _one_and_rest(post)
    firm.start("sender", crashpoint, number=SIGSTOP)
    await firm.gets(first)
    await firm.is_frozen("sender")
    with firm.second("sender"):
        await firm.gets(*rest)
        await _all_is_handled(firm)
        # Before it is thawed: nobody waits for it.
        await check(firm, post, older)
        there = await _thaws_and_works(firm, "sender", post, older)
    assert _copies_of_doubtful(there) == SENDER[crashpoint]


@pytest.mark.parametrize(
    ("said", "copies"), [(client(b"DATA\r\n"), 1), (client(b"\r\n.\r\n"), 2)], ids=["DATA", "end"]
)
async def test_a_sender_that_was_frozen_within_data_sends_no_more_of_it(
    own: OwnServers, healed: Firm, said: Said, copies: int
) -> None:
    firm = healed
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    first, rest = _one_and_rest(post)
    answer_lost = own.smtp.swallow_answer(said)
    await firm.gets(first)
    await until(answer_lost.is_set, within=PATIENCE)
    if copies == 2:
        # The mail has left; only that it was taken is what nobody hears.
        (writer,) = [each for each in post.customers if each.address in str(first["From"])]
        await until(lambda: firm.uids(writer), within=PATIENCE)
    firm.freeze("sender")
    with firm.second("sender"):
        await firm.gets(*rest)
        await _all_is_handled(firm)
        await check(firm, post, older)
        there = await _thaws_and_works(firm, "sender", post, older)
    assert _copies_of_doubtful(there) == [copies]


@pytest.mark.parametrize("name", service_names())
async def test_a_session_frozen_between_preparing_and_executing_is_ended_by_each_service(
    firm: Firm, name: str
) -> None:
    """PostgreSQL itself does not: it takes it for one that works."""
    firm.start_missing()
    session = await asyncpg.connect(firm.database.url(name))
    await session.execute("BEGIN")
    await session.prepare("SELECT 1")
    await until(session.is_closed, within=PATIENCE)
    assert logged(firm, name, "ended_who_stood_still")


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(hours=-1)], ids=str)
async def test_two_replicas_of_all_services_work_on_while_the_clock_jumps(
    new_firm: Firm, jump: timedelta
) -> None:
    firm = new_firm
    older = await _opened(firm)
    with firm.second(*service_names()):
        for name in service_names():
            await is_ready(firm, f"{name}-2")
        post = await mixed(firm, older)
        bringing = asyncio.create_task(firm.gets(*post.messages))
        firm.pass_time(jump)
        await bringing
        assert (await check(firm, post, older)).doubtful == {}
        assert not any(logged(firm, each, "lease_lost") for each in firm.processes)


async def _opened(firm: Firm) -> Dialogue:
    firm.start_missing()
    return await open_ticket(firm)


def _one_and_rest(post: Post) -> tuple[EmailMessage, list[EmailMessage]]:
    """One that is acknowledged, for which the sender is frozen with nothing else in hand."""
    written = zip(post.messages, post.mails, strict=True)
    one = next(message for message, mail in written if mail.is_acknowledged and not mail.joins)
    return one, [message for message in post.messages if message is not one]


async def _all_is_handled(firm: Firm) -> None:
    """Also what is in the hands of the frozen one, when RabbitMQ has missed its heartbeats."""
    for name in ("fetcher", "router", "ticketing"):
        await has_worked(firm, name)
    await has_worked(firm, "sender", within=PATIENCE + 3 * HEARTBEAT)


async def _thaws_and_works(firm: Firm, name: str, post: Post, older: Dialogue) -> Seen:
    """It goes on where it was, and then does its share of what comes; what became of all."""
    firm.thaw(name)
    await is_ready(firm, name)
    more = await mixed(firm, older, count=10)
    await firm.gets(*more.messages)
    post.extend(more)
    return await check(firm, post, older)


def _copies_of_doubtful(there: Seen) -> list[int]:
    """How often each mail of which nobody knows lies in its customer's inbox."""
    copies = [answer.id for inbox in there.inboxes.values() for answer in inbox]
    return [copies.count(each) for each in there.doubtful if each in copies]
