"""Services start in any order, before there is anything to start with, and days apart: every mail
becomes one ticket all the same, and nobody has to start one again."""

import asyncio
from datetime import timedelta
from itertools import chain
from typing import Any

import aio_pika
import pytest
from pydantic_core import Url
from sqlalchemy import func, select

from deploy import local
from deploy.local import mail_programs
from mailroom import database
from mailroom.messaging import topology
from mailroom_fetcher.store import arrivals
from tests.faults.firm import PATIENCE, Firm
from tests.faults.mails import check, mixed, open_ticket
from tests.faults.readiness import is_ready, logged, says
from tests.installation import (
    PUBLISHERS,
    installed_services,
    passwords,
    queues_of,
    service_names,
)
from tests.waiting import until

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
    firm: Firm, order: list[str]
) -> None:
    older = await _older(firm)
    post = await mixed(firm, older)
    share = -(-len(post.messages) // len(order))
    for number, name in enumerate(order):
        await firm.gets(*post.messages[number * share :][:share])
        firm.start(name)
        await is_ready(firm, name)
        await _has_worked(firm, name)
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
        await _has_worked(firm, name)
        firm.end(name)
        firm.pass_time(DAYS)
    firm.start_missing()
    await check(firm, post, older)


async def test_services_wait_for_broker_database_and_migration_and_say_so(
    unprepared_firm: Firm,
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
    post = await mixed(firm, older)
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


async def _has_worked(firm: Firm, name: str) -> None:
    """What waited for this service is done, as far as it can be without the others."""
    service = next(each for each in installed_services() if each.name == name)
    outbox = service.messaging.outbox
    unpublished = select(func.count()).where(outbox.c.due <= firm.now)
    engine = database.engine(Url(firm.database.superuser_url), "looking", connections=1)

    async def published() -> bool:
        async with engine.connect() as tx:
            assert not await tx.scalar(unpublished)
            if name == "fetcher":
                brought = await tx.scalar(select(func.count()).select_from(arrivals))
                assert brought is not None
                assert brought >= len(
                    list(chain(*(firm.folder(each) for each in (firm.service, firm.sales))))
                )
        return True

    url = firm.it.environment["MAILROOM_OWNER_BROKER_URL"]
    async with await aio_pika.connect(url, timeout=10) as connection:
        channel = await connection.channel()

        async def handled() -> bool:
            for queue in queues_of(service):
                waiting = (await channel.declare_queue(queue, passive=True)).declaration_result
                assert not waiting.message_count, queue
            return await published()

        await until(handled, within=PATIENCE)
    await engine.dispose()


def _make_database_and_vhost(firm: Firm) -> None:
    """As whoever prepares the servers does it, before `mailroom migrate`."""
    servers, services = firm.it.servers, installed_services()
    vhost = firm.it.environment["MAILROOM_OWNER_BROKER_URL"].rpartition("/")[2]
    local.create_database(servers, firm.database.name)
    users = topology.definitions(services, vhost, passwords(), PUBLISHERS)
    local.import_definitions(servers, users)
