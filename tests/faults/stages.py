"""Service after service: each works alone on what the one before it has published, and in between
that may be published once more, and in another order.

Invariant: what is published here is what a service published, byte for byte and with the same ids,
by its own broker user: what a broker, a relay or a person who replays may do.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from pydantic_core import Url
from sqlalchemy import Select, and_, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import database
from mailroom.messaging.publishing import open_channel, publish
from mailroom.messaging.tables import AnyRow
from mailroom.messaging.topology import EXCHANGE, binding_keys, queue_name
from mailroom_fetcher.store import arrivals
from mailroom_sender.tables import copies, requests
from tests.faults.firm import PATIENCE, Firm
from tests.installation import installed_services
from tests.waiting import until

WAY = ("fetcher", "router", "ticketing", "sender")
"""The services in the order in which a mail comes through them."""


async def published(firm: Firm, service: str) -> list[AnyRow]:
    """What a service has published, each event once, in the order of its outbox."""
    sent = _services()[service].messaging.outbox_sent
    query = select(sent).where(sent.c.exchange == EXCHANGE).order_by(sent.c.id)
    async with _looking(firm) as tx:
        return list({row.event_id: row for row in await tx.execute(query)}.values())


async def publish_again(
    firm: Firm, service: str, rows: Sequence[AnyRow], times: int = 1, at_once: int = 1
) -> None:
    """Publish them as they are, so often, over so many connections at once."""
    url = _broker_url(firm, service)

    async def one_connection() -> None:
        async with await aio_pika.connect(url, timeout=PATIENCE) as connection:
            channel = await open_channel(connection, PATIENCE)
            for _ in range(times // at_once):
                outcome = await publish(channel, rows, service, PATIENCE)
                assert sorted(outcome.confirmed) == sorted(row.id for row in rows), outcome

    await asyncio.gather(*(one_connection() for _ in range(at_once)))


async def turn_round(firm: Firm, service: str) -> int:
    """What a service has published waits in its queues: let it come from its end; how much."""
    rows = await published(firm, service)
    keys = {row.routing_key for row in rows}
    taken: set[str] = set()
    for consumer in _services().values():
        for subscription in consumer.subscriptions:
            if keys.intersection(binding_keys(subscription)):
                name = queue_name(consumer.name, subscription.contract)
                taken |= await _taken_from(firm, consumer.name, name)
    waiting = [row for row in rows if row.event_id in taken]
    await publish_again(firm, service, waiting[::-1])
    return len(waiting)


async def _taken_from(firm: Firm, service: str, name: str) -> set[str]:
    """The ids of all that waited in a queue, which is empty now."""
    taken = set()
    async with await aio_pika.connect(_broker_url(firm, service), timeout=PATIENCE) as connection:
        queue = await (await connection.channel()).get_queue(name, ensure=False)
        while message := await queue.get(no_ack=True, fail=False):
            taken.add(message.message_id or "")
    return taken


async def works_alone(firm: Firm, service: str, replicas: int = 1) -> None:
    """Let it do all that there is for it, and end it in order."""
    for replica in range(1, replicas + 1):
        firm.start(service, replica=replica)
    await until(lambda: _has_nothing_to_do(firm, service), within=PATIENCE, every=0.2)
    for name in [name for name in firm.processes if name.partition("-")[0] == service]:
        firm.end(name)


async def _has_nothing_to_do(firm: Firm, service: str) -> bool:
    async with _looking(firm) as tx:
        waits = [await tx.scalar(query) for query in _undone(service)]
        due = await tx.scalar(select(func.max(_services()[service].messaging.outbox.c.due)))
    if due is not None and due > firm.now:
        firm.pass_time(due - firm.now)
    return not any(waits) and due is None


def _undone(service: str) -> list[Select[Any]]:
    own = _services()[service]
    queries = [_unhandled(own)] if own.subscriptions else []
    if service == "sender":
        queries.append(select(func.count()).where(requests.c.ended_at.is_(None)))
        queries.append(select(func.count()).where(copies.c.state == "due"))
    return queries


def _unhandled(own: Any) -> Select[Any]:
    """How many events that go to the service it has not handled."""
    sent = union_all(
        *(
            select(
                literal(each.name).label("publisher"),
                each.messaging.outbox_sent.c.event_id,
                each.messaging.outbox_sent.c.routing_key,
            )
            for each in _services().values()
        )
    ).subquery("sent")
    wanted = union_all(
        *(
            select(
                sent.c.publisher,
                sent.c.event_id,
                literal(queue_name(own.name, subscription.contract)).label("queue"),
            ).where(sent.c.routing_key.in_(binding_keys(subscription)))
            for subscription in own.subscriptions
        )
    ).subquery("wanted")
    handled = own.messaging.consumed
    same = [handled.c[name] == wanted.c[name] for name in ("publisher", "event_id", "queue")]
    return (
        select(func.count())
        .select_from(wanted.outerjoin(handled, and_(*same)))
        .where(handled.c.event_id.is_(None))
    )


async def fetches_alone(firm: Firm, arrived: int) -> None:
    """Let the fetcher bring so many new mails, and end it in order."""
    before = await _fetched(firm)
    firm.start("fetcher")

    async def all_of_them() -> bool:
        return await _fetched(firm) >= before + arrived

    await until(all_of_them, within=PATIENCE, every=0.2)
    await works_alone(firm, "fetcher")


async def _fetched(firm: Firm) -> int:
    async with _looking(firm) as tx:
        return await tx.scalar(select(func.count()).select_from(arrivals)) or 0


@asynccontextmanager
async def _looking(firm: Firm) -> AsyncIterator[AsyncConnection]:
    """At one snapshot: else something could go from here to there unseen meanwhile."""
    engine = database.engine(Url(firm.database.superuser_url), "stages", connections=1)
    async with engine.execution_options(isolation_level="REPEATABLE READ").connect() as tx:
        yield tx
    await engine.dispose()


def _services() -> dict[str, Any]:
    return {service.name: service for service in installed_services()}


def _broker_url(firm: Firm, service: str) -> str:
    return firm.it.environment[f"MAILROOM_{service.upper()}_BROKER_URL"]
