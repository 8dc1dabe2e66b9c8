"""Two services to try messaging on: `shop` publishes, `desk` consumes and writes down.

Desk's handler does what the note of an order says, so that a test chooses each event's fate.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import ChannelFrame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pydantic_settings import SettingsConfigDict
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    func,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mailroom import database
from mailroom.contracts import Contract, MailRejected, MailSend
from mailroom.messaging import consume, outbox
from mailroom.messaging.envelope import Outgoing, Received, caused_by
from mailroom.messaging.failures import ParkEvent, RetryLater
from mailroom.messaging.tables import messaging_tables
from mailroom.objects import ObjectStore
from mailroom.service import Refused, Resources, Service, Subscription
from mailroom.settings import CommonSettings, ServiceSettings
from tests.installation import Broker, Database


class OrderPlaced(Contract):
    name: ClassVar[str] = "order.placed"
    publishers: ClassVar[tuple[str, ...]] = ("shop",)
    key_suffixes: ClassVar[tuple[str, ...]] = (".small", ".big")

    number: int
    size: str = "small"
    note: str = ""

    def routing_key(self) -> str:
        return f"{self.name}.{self.size}"


class OrderShipped(Contract):
    name: ClassVar[str] = "order.shipped"
    publishers: ClassVar[tuple[str, ...]] = ("desk",)

    number: int


class OrderCancel(Contract):
    """A command that nobody consumes."""

    name: ClassVar[str] = "order.cancel"
    is_command: ClassVar[bool] = True
    publishers: ClassVar[tuple[str, ...]] = ("shop",)

    number: int


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="MAILROOM_SHOP_")


class DeskSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="MAILROOM_DESK_")


shop_metadata = MetaData(schema="shop")
shop_messaging = messaging_tables(shop_metadata)
desk_metadata = MetaData(schema="desk")
desk_messaging = messaging_tables(desk_metadata)
orders = Table(
    "orders",
    desk_metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("note", Text, nullable=False),
)


class Exploded(Exception):
    """A bug."""


async def take_orders(
    tx: AsyncConnection, events: Sequence[Received[OrderPlaced]], resources: Resources[Any]
) -> Sequence[Outgoing]:
    for received in events:
        await _obey(tx, received.event.note)
    rows = [{"number": each.event.number, "note": each.event.note} for each in events]
    await tx.execute(insert(orders), rows)
    return [caused_by(each, OrderShipped(number=each.event.number)) for each in events]


async def _obey(tx: AsyncConnection, note: str) -> None:
    match note.split():
        case ["park"]:
            raise ParkEvent("the order says so")
        case ["later"]:
            raise RetryLater("the order says so")
        case ["bug"]:
            raise Exploded("secret words")
        case ["sql", *statement]:
            await tx.execute(text(" ".join(statement)))
        case ["forever"]:
            await asyncio.Event().wait()


async def note_mail(
    tx: AsyncConnection, events: Sequence[Received[MailSend]], resources: Resources[Any]
) -> Sequence[Outgoing]:
    rows = [{"number": 0, "note": f"{each.publisher} {each.event.subject}"} for each in events]
    await tx.execute(insert(orders), rows)
    return []


def reject(refused: Refused) -> Sequence[Outgoing]:
    event = MailRejected(
        publisher=refused.publisher,
        idempotency_key=None,
        event_id=refused.event_id,
        errors=refused.errors,
    )
    return [Outgoing(event, refused.correlation_id)]


SHOP = Service(
    name="shop",
    settings=ShopSettings,
    metadata=shop_metadata,
    messaging=shop_messaging,
    publishes=(OrderPlaced, OrderCancel, MailSend),
)
DESK = Service(
    name="desk",
    settings=DeskSettings,
    metadata=desk_metadata,
    messaging=desk_messaging,
    publishes=(OrderShipped, MailRejected),
    subscriptions=(
        Subscription(OrderPlaced, take_orders),
        Subscription(MailSend, note_mail, refuse=reject),
    ),
)
SERVICES: tuple[Service[Any], ...] = (SHOP, DESK)
ORDERS = "desk.order.placed"
MAILS = "desk.mail.send"


@dataclass
class World:
    """An installation of both services, and what a test does to it."""

    database: Database
    broker: Broker
    opened: list[Resources[Any]] = field(default_factory=list)
    looking: dict[str, AsyncEngine] = field(default_factory=dict)

    def resources(self, service: Service[Any], **settings: Any) -> Resources[Any]:
        urls = {
            "database_url": self.database.url(service.name),
            "broker_url": self.broker.url(service.name),
        }
        own = service.settings.model_validate(urls | settings)
        resources = Resources(
            common=CommonSettings(objects="/nowhere"),
            settings=own,
            engine=database.engine(own.database_url, service.name),
            objects=ObjectStore.__new__(ObjectStore),
            messaging=service.messaging,
            replica=uuid4().hex,
        )
        self.opened.append(resources)
        return resources

    @asynccontextmanager
    async def running(
        self,
        service: Service[Any],
        resources: Resources[Any] | None = None,
        only: Callable[[str], bool] = lambda _: True,
        **settings: Any,
    ) -> AsyncIterator[Resources[Any]]:
        """A service's loops, or those whose names `only` lets pass."""
        resources = resources or self.resources(service, **settings)
        broker = consume.broker_for(service, resources.settings)
        await broker.start()
        loops = [
            asyncio.ensure_future(loop())
            for name, loop in consume.tasks(service, broker, resources)
            if only(name)
        ]
        try:
            yield resources
        finally:
            for loop in loops:
                loop.cancel()
            ended = await asyncio.gather(*loops, return_exceptions=True)
            await broker.stop()
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    def look(self, table: Table) -> AsyncEngine:
        """For what a test sees, as the owner of the table does."""
        schema = table.schema or ""
        if schema not in self.looking:
            url = make_url(self.database.url(schema)).set(drivername="postgresql+asyncpg")
            self.looking[schema] = create_async_engine(url, poolclass=NullPool)
        return self.looking[schema]

    async def place(self, *events: Contract, ids: Sequence[UUID] = ()) -> list[str]:
        """Write events into shop's outbox. Returns their ids."""
        outgoing = [
            Outgoing(event, f"order-{at}", event_id=ids[at] if ids else uuid4())
            for at, event in enumerate(events)
        ]
        async with self.look(SHOP.messaging.outbox).begin() as tx:
            await outbox.add(tx, SHOP.messaging, outgoing)
        return [str(each.event_id) for each in outgoing]

    async def publish(
        self,
        user: str,
        key: str,
        body: bytes,
        exchange: str = "mailroom",
        **properties: Any,
    ) -> None:
        """As any client of the broker could."""
        is_admin = user == self.broker.server.user
        url = self.broker.admin_url if is_admin else self.broker.url(user)
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            to = await channel.get_exchange(exchange, ensure=False)
            message = aio_pika.Message(body, **properties)
            await to.publish(message, key, mandatory=False)

    async def publish_frames(
        self,
        user: str,
        key: str,
        body: bytes,
        spoil: Callable[[bytes], bytes] = lambda frames: frames,
        **properties: Any,
    ) -> None:
        """Publish as aio-pika would not: without an event id, or with bytes that are none."""
        async with await aio_pika.connect(self.broker.url(user)) as connection:
            channel = await connection.channel(publisher_confirms=False)
            underlay: Any = await channel.get_underlay_channel()
            frames: list[Any] = [
                commands.Basic.Publish(exchange="mailroom", routing_key=key),
                ContentHeader(
                    properties=commands.Basic.Properties(**properties), body_size=len(body)
                ),
                ContentBody(body),
            ]
            written = ChannelFrame.marshall(underlay.number, frames).payload
            await underlay.write_queue.put(ChannelFrame(spoil(written), should_close=False))
            # An answer to what comes after says that it was taken.
            await channel.declare_queue(ORDERS, passive=True)

    async def emptied(self, queue: str) -> list[AbstractIncomingMessage]:
        """Take all that is ready in a queue."""
        messages: list[AbstractIncomingMessage] = []
        async with await aio_pika.connect(self.broker.admin_url) as connection:
            source = await (await connection.channel()).get_queue(queue)
            while (message := await source.get(fail=False, no_ack=True)) is not None:
                messages.append(message)
        return messages

    async def delete(self, queue: str) -> None:
        """Delete a queue under its consumers."""
        async with await aio_pika.connect(self.broker.admin_url) as connection:
            await (await connection.channel()).queue_delete(queue)

    async def ready(self, queue: str) -> tuple[int, int]:
        """Messages ready in a queue (none in anybody's hand), and its consumers."""
        async with await aio_pika.connect(self.broker.admin_url) as connection:
            source = await (await connection.channel()).get_queue(queue)
            declared = source.declaration_result
            return declared.message_count or 0, declared.consumer_count or 0

    async def taken(self) -> list[int]:
        """Numbers of the orders that desk took, sorted."""
        async with self.look(orders).connect() as tx:
            return list((await tx.scalars(select(orders.c.number).order_by("number"))).all())

    async def rows(self, table: Table) -> list[Any]:
        async with self.look(table).connect() as tx:
            return list((await tx.execute(select(table))).all())

    async def count(self, table: Table) -> int:
        async with self.look(table).connect() as tx:
            return (await tx.execute(select(func.count()).select_from(table))).scalar_one()

    async def close(self) -> None:
        for engine in [*(each.engine for each in self.opened), *self.looking.values()]:
            await engine.dispose()
