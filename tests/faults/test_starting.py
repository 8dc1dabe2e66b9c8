"""Services start in any order, before there is anything to start with, and days apart: every mail
becomes one ticket all the same, and nobody has to start one again."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from deploy import local
from deploy.local import mail_programs
from mailroom.messaging import topology
from tests.faults.firm import Firm
from tests.faults.mails import check, mixed, open_ticket
from tests.faults.readiness import has_worked, is_ready, logged, says
from tests.installation import (
    PUBLISHERS,
    installed_services,
    passwords,
    service_names,
)

DAYS = timedelta(days=3)
ROTATIONS = [
    [*service_names()[first:], *service_names()[:first]] for first in range(len(service_names()))
]


@pytest.mark.matrix
async def test_all_services_start_at_once_with_mail_waiting(firm: Firm) -> None:
    older = await _older(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    firm.start_missing()
    await check(firm, post, older)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, id=order[0], marks=[pytest.mark.matrix] if number else [])
        for number, order in enumerate(ROTATIONS)
    ],
)
async def test_services_start_one_after_another_each_with_mail_waiting(
    firm: Firm, mails: int, order: list[str]
) -> None:
    older = await _older(firm)
    post = await mixed(firm, older, mails)
    share = -(-len(post.messages) // len(order))
    for number, name in enumerate(order):
        await firm.gets(*post.messages[number * share :][:share])
        firm.start(name)
        await is_ready(firm, name)
        await has_worked(firm, name)
    await check(firm, post, older)


@pytest.mark.matrix
async def test_a_publisher_may_run_days_before_its_consumer_and_never_with_it(
    new_firm: Firm,
) -> None:
    firm = new_firm
    older = await _older(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    for name in ("directory", "fetcher", "router", "ticketing", "sender"):
        firm.start(name)
        await is_ready(firm, name)
        await has_worked(firm, name)
        firm.end(name)
        firm.pass_time(DAYS)
    firm.start_missing()
    await check(firm, post, older)


async def test_services_wait_for_broker_database_and_migration_and_say_so(
    unprepared_firm: Firm, mails: int
) -> None:
    firm = unprepared_firm
    firm.start_missing()
    for name in service_names():
        await says(firm, name, f"{name} broker")
        await says(firm, name, f"{name} database")
    _make_database_and_vhost(firm)
    for name in service_names():
        await says(firm, name, "run `mailroom migrate`")
    await firm.asks("migrate")
    for name in service_names():
        await is_ready(firm, name)
        told = logged(firm, name, "waits_to_start")
        assert len(told) == len({(line["waits_for"], line["problem"]) for line in told}) >= 2
    await asyncio.to_thread(firm.set_up)
    older = await open_ticket(firm)
    post = await mixed(firm, older, mails)
    await firm.gets(*post.messages)
    await check(firm, post, older)


@pytest.mark.matrix
async def test_all_services_in_one_process(new_firm: Firm) -> None:
    firm = new_firm
    firm.start("all")
    await is_ready(firm, "all")
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    await check(firm, post, older)


@pytest.mark.matrix
async def test_a_migration_runs_while_services_of_its_version_work(firm: Firm) -> None:
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    bringing = asyncio.create_task(asyncio.to_thread(_bring, firm, post.messages))
    while not bringing.done():
        await firm.asks("migrate")
    await bringing
    await check(firm, post, older)


def _bring(firm: Firm, messages: list[Any]) -> None:
    for message in messages:
        mail_programs.post(firm.it.servers, message)


async def _older(firm: Firm) -> Any:
    """A dialogue from before; nothing runs any more."""
    firm.start_missing()
    older = await open_ticket(firm)
    for name in list(firm.processes):
        firm.end(name)
    return older


def _make_database_and_vhost(firm: Firm) -> None:
    """As whoever prepares the servers does it, before `mailroom migrate`."""
    servers, services = firm.it.servers, installed_services()
    vhost = firm.it.environment["MAILROOM_OWNER_BROKER_URL"].rpartition("/")[2]
    local.create_database(servers, firm.database.name)
    users = topology.definitions(services, vhost, passwords(), PUBLISHERS)
    local.import_definitions(servers, users)
