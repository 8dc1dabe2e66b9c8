"""What comes twice, twenty times or in any order, be it a mail or an event, has its effect once."""

from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from smtplib import SMTP

import pytest

from deploy.local import mail_programs
from mailroom.messaging.tables import AnyRow
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import id_of, until_nothing_moves
from tests.faults.mails import Post, check, mixed, open_ticket
from tests.faults.model import Mail
from tests.faults.stages import (
    WAY,
    fetches_alone,
    publish_again,
    published,
    turn_round,
    works_alone,
)
from tests.installation import service_names
from tests.local.mail import logged_in
from tests.waiting import until

COPIES = 20
MAIN_PATH = {"mail.received", "mail.routed", "mail.send", "mail.sent", "mail.filed"}
RETENTION = timedelta(days=30)
"""Of published events, if nobody sets another."""
LONG = timedelta(days=400)
"""Longer than anything is remembered of an event."""


@pytest.fixture(scope="module")
def running(firm: Firm) -> Iterator[Firm]:
    """The firm of all cases; each brings mails and customers of its own."""
    firm.start_missing()
    yield firm
    firm.kill_all()


@pytest.fixture
def quiet(running: Firm) -> Iterator[Firm]:
    """For one test, no service runs unless it starts it."""
    yield running
    running.start_missing()


async def rest(firm: Firm) -> None:
    """End all services when nothing moves."""
    await until_nothing_moves(firm, [])
    for name in list(firm.processes):
        firm.end(name)


def arrivals(post: Post, firm: Firm) -> int:
    """How many mails that makes in our folders."""
    ours = {firm.service.address, firm.sales.address}
    to = [address.addr_spec for each in post.messages for address in each["To"].addresses]
    return sum(address in ours for address in to)


async def test_twenty_copies_of_each_event_at_once_to_two_replicas_do_what_one_does(
    quiet: Firm, mails: int
) -> None:
    firm = quiet
    firm.start_missing()
    older = await open_ticket(firm)
    await rest(firm)
    post = await mixed(firm, older, mails)
    await firm.gets(*post.messages)
    known = {row.event_id for service in WAY for row in await published(firm, service)}
    names: set[str] = set()
    await fetches_alone(firm, arrivals(post, firm))
    for service, following in zip(WAY, (*WAY[1:], ""), strict=True):
        rows = [row for row in await published(firm, service) if row.event_id not in known]
        names |= {row.type for row in rows}
        await publish_again(firm, service, rows, times=COPIES - 2, at_once=2)
        if following:
            await works_alone(firm, following, replicas=2)
    assert names >= MAIN_PATH
    firm.start_missing()
    there = await check(firm, post, older)
    assert there.doubtful == {}


@pytest.mark.matrix
async def test_twenty_copies_of_each_event_long_after_do_nothing(running: Firm) -> None:
    older = await open_ticket(running)
    post = await mixed(running, older)
    await running.gets(*post.messages)
    await check(running, post, older)
    rows: dict[str, list[AnyRow]] = {name: await published(running, name) for name in WAY}
    for service in reversed(WAY):
        for name in {row.type for row in rows[service]}:
            some = [row for row in rows[service] if row.type == name][-10:]
            await publish_again(running, service, some, times=COPIES, at_once=2)
    await check(running, post, older)


async def test_all_events_come_in_reverse_order_at_each_stage(quiet: Firm, mails: int) -> None:
    firm = quiet
    firm.start_missing()
    older = await open_ticket(firm)
    await rest(firm)
    post = await mixed(firm, older, mails)
    await firm.gets(*post.messages)
    await fetches_alone(firm, arrivals(post, firm))
    for service, following in zip(WAY, (*WAY[1:], ""), strict=True):
        assert await turn_round(firm, service) >= len(post.messages) // 2
        if following:
            await works_alone(firm, following)
    firm.start_missing()
    await check(firm, post, older)


async def brought(firm: Firm, message: EmailMessage, *recipients: str) -> None:
    """One mail is delivered to all of these."""
    servers, people = firm.it.servers, (firm.service, firm.sales)

    def there() -> int:
        return sum(len(mail_programs.uids(servers, person)) for person in people)

    before, sender = there(), message["From"].addresses[0].addr_spec
    with SMTP("localhost", servers.postfix.smtp, timeout=30) as smtp:
        smtp.sendmail(sender, recipients, message.as_bytes())
    await until(lambda: there() == before + len(recipients), within=PATIENCE)


def detailed(address: str) -> str:
    name, _, domain = address.partition("@")
    return f"{name}+copy@{domain}"


@pytest.mark.matrix
@pytest.mark.parametrize("when", ["all at once", "while nobody looks", "one after the other"])
async def test_one_mail_that_comes_through_two_accounts_and_four_addresses_is_one_ticket(
    quiet: Firm, when: str
) -> None:
    firm = quiet
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older, count=10)
    us = [person.address for person in (firm.service, firm.sales)]
    everywhere = [*us, *map(detailed, us)]
    copied = []
    for _ in range(10):
        customer = firm.customer()
        message = mail_programs.write(customer, everywhere, "Four times", "Where is it?\n")
        post.customers.append(customer)
        post.mails.append(Mail(id_of(message), customer.address))
        copied.append(message)
    if when == "while nobody looks":
        await rest(firm)
    for message in copied:
        if when != "one after the other":
            await brought(firm, message, *everywhere)
            continue
        for address in everywhere:
            await brought(firm, message, address)
    await firm.gets(*post.messages)
    firm.start_missing()
    await check(firm, post, older)


@pytest.mark.matrix
@pytest.mark.parametrize("order", ["the copy in Sent first", "what was received first", "at once"])
async def test_a_colleague_who_writes_to_us_has_one_ticket_however_his_mail_is_found(
    running: Firm, order: str
) -> None:
    """His account brings it from Sent, ours from the inbox; each may be the first."""
    firm = running
    older = await open_ticket(firm)
    post = await mixed(firm, older, count=10)
    written = [
        mail_programs.write(firm.sales, [firm.service.address], "From next door", "Please do!\n")
        for _ in range(10)
    ]
    for message in written:
        post.mails.append(Mail(id_of(message), firm.sales.address, is_acknowledged=False))
    ways = [_into_sent, _into_the_inbox]
    for way in ways if order == "the copy in Sent first" else reversed(ways):
        for message in written:
            await way(firm, message)
        if order != "at once":
            await firm.asks("account", "fetch", firm.sales.name)
            await until_nothing_moves(firm, [])
    await firm.gets(*post.messages)
    await check(firm, post, older)


async def _into_sent(firm: Firm, message: EmailMessage) -> None:
    with logged_in(firm.it.servers, firm.sales.address, firm.sales.password) as imap:
        imap.append("Sent", r"(\Seen)", "", message.as_bytes())


async def _into_the_inbox(firm: Firm, message: EmailMessage) -> None:
    await brought(firm, message, firm.service.address)


@pytest.mark.matrix
async def test_events_that_are_replayed_month_after_month_do_nothing_again(new_firm: Firm) -> None:
    """A replayed event can be replayed for another month, and so on; each start prunes."""
    firm = new_firm
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    await check(firm, post, older)
    for _ in range(5):
        firm.pass_time(RETENTION - timedelta(days=1))
        await _restarted(firm)
        for name in service_names():
            await firm.asks("replay", "--service", name, "--since", "2020-01-01")
        await check(firm, post, older)


@pytest.mark.matrix
async def test_events_that_nobody_remembers_any_more_still_do_nothing_again(
    new_firm: Firm,
) -> None:
    """Somebody kept them for longer than a year: mails, tickets and requests are still known."""
    firm = new_firm
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    await check(firm, post, older)
    rows = {name: await published(firm, name) for name in WAY}
    firm.pass_time(LONG - timedelta(days=1))
    await _restarted(firm)
    for name in WAY:
        await publish_again(firm, name, rows[name])
    await check(firm, post, older)


async def _restarted(firm: Firm) -> None:
    for name in list(firm.processes):
        firm.end(name)
    firm.start_missing()
