"""The router as it runs: from `mail.received` on its queue to `mail.routed` on a subscriber's."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractQueue
from pydantic_core import Url
from sqlalchemy import select

from mailroom import clock
from mailroom.contracts import Contract
from mailroom.messaging import consume
from mailroom.messaging.envelope import Received
from mailroom.service import Resources
from mailroom_router import store
from mailroom_router.routing import Account
from mailroom_router.service import SERVICE as ROUTER
from mailroom_router.settings import RouterSettings
from tests.installation import Broker, Database
from tests.router.samples import ALICE_ACCOUNT, ALICES, SERVICE
from tests.router.test_service import FOR_ALICE, QUESTION, received
from tests.waiting import until


@pytest.fixture
def settings(database: Database, broker: Broker) -> RouterSettings:
    return RouterSettings(
        database_url=Url(database.url("router")), broker_url=Url(broker.url("router"))
    )


@asynccontextmanager
async def running(resources: Resources[RouterSettings]) -> AsyncIterator[None]:
    """A router's loops."""
    broker = consume.broker_for(ROUTER, resources.settings)
    await broker.start()
    loops = [asyncio.ensure_future(loop()) for _, loop in consume.tasks(ROUTER, broker, resources)]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await broker.stop()


async def publish(broker: Broker, events: list[Received[Any]]) -> None:
    """As the fetcher's relay does."""
    async with await aio_pika.connect(broker.url("fetcher")) as connection:
        exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
        for each in events:
            event: Contract = each.event
            message = aio_pika.Message(
                event.model_dump_json(by_alias=True).encode(),
                message_id=each.event_id,
                type=event.name,
                correlation_id=each.correlation_id,
                timestamp=clock.now(),
                user_id="fetcher",
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, event.routing_key())


@dataclass
class Subscriber:
    """Hears all that is routed."""

    queue: AbstractQueue
    told: list[dict[str, Any]] = field(default_factory=list)

    async def hears(self, count: int) -> list[dict[str, Any]]:
        """The bodies of that many events, and what came with each."""
        await until(lambda: self._heard(count), within=20)
        return self.told

    async def _heard(self, count: int) -> bool:
        while (message := await self.queue.get(fail=False, no_ack=True)) is not None:
            came = {"key": message.routing_key, "because_of": message.correlation_id}
            self.told.append(json.loads(message.body) | came)
        return len(self.told) >= count


@pytest.fixture
async def subscriber(broker: Broker) -> AsyncIterator[Subscriber]:
    async with await aio_pika.connect(broker.admin_url) as connection:
        queue = await (await connection.channel()).declare_queue(exclusive=True)
        await queue.bind("mailroom", "mail.routed.*")
        yield Subscriber(queue)


async def test_one_mail_through_two_accounts_reaches_subscribers_as_one_mail_in_two_places(
    resources: Resources[RouterSettings], broker: Broker, subscriber: Subscriber
) -> None:
    one = await received(resources, QUESTION)
    other = await received(resources, FOR_ALICE, ALICE_ACCOUNT)
    await publish(broker, [one, other, one])
    async with running(resources):
        told = {mail["key"]: mail for mail in await subscriber.hears(2)}
    central, private = told["mail.routed.central"], told["mail.routed.private"]
    assert central["mail"] == private["mail"]
    assert (central["mailbox"], private["mailbox"]) == (str(SERVICE.id), str(ALICES.id))
    assert central["because_of"] == one.correlation_id
    assert private["because_of"] == other.correlation_id
    assert central["from"] == [{"name": "A Customer", "address": "customer@shop.example"}]


async def test_a_mail_of_a_removed_account_is_parked_and_its_neighbours_pass(
    resources: Resources[RouterSettings], broker: Broker, subscriber: Subscriber
) -> None:
    gone = Account(uuid4(), "gone", "gone@firm.example", SERVICE.id)
    good, bad = await received(resources, QUESTION), await received(resources, QUESTION, gone)
    await publish(broker, [bad, good])

    async def parked() -> list[Any]:
        async with resources.engine.connect() as tx:
            return list((await tx.execute(select(store.messaging.parked))).all())

    async with running(resources):
        (told,) = await subscriber.hears(1)
        (row,) = await until(parked, within=20)
    assert told["arrival"] == str(good.event.arrival)
    assert row.event_id == bad.event_id
    assert "was removed from the directory, so its mail has no mailbox" in row.reason


async def test_a_mail_that_only_says_it_is_ours_waits_in_the_outbox_while_others_pass(
    resources: Resources[RouterSettings], broker: Broker, subscriber: Subscriber
) -> None:
    stamped = QUESTION.replace(b"customer@shop", b"service@firm").replace(b"question@", b"other@")
    ours = await received(resources, b"X-Mailroom-Mail: %s\n" % str(uuid4()).encode() + stamped)
    good = await received(resources, QUESTION)
    await publish(broker, [ours, good])

    async def waiting() -> list[Any]:
        async with resources.engine.connect() as tx:
            outbox = store.messaging.outbox
            found = select(outbox).where(outbox.c.event_id == ours.event_id)
            return list((await tx.execute(found)).all())

    async with running(resources):
        (told,) = await subscriber.hears(1)
        (row,) = await until(waiting, within=20)
    assert told["arrival"] == str(good.event.arrival)
    assert row.due > clock.now()
