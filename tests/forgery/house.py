"""A house with all services and a ticket in it: what a forger would want to touch.

Invariant: what a forger publishes is consumed by the real services' consumers, and whatever that
changes in any table of any of them shows.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg

from deploy.local.operating import Operated
from mailroom import clock, database, objects, settings
from mailroom.contracts import Contract, MailReceived
from mailroom.messaging import consume
from mailroom.messaging.topology import binding_keys, queue_name
from mailroom.objects import open_store
from mailroom.service import Resources, Service
from mailroom.settings import CommonSettings
from tests.forgery.examples import Known, example
from tests.installation import Broker, Database, installed_services
from tests.waiting import until

MAIL = (
    b"From: anna@customer.test\r\nTo: service@firm.test\r\nMessage-ID: <%s@customer.test>\r\n"
    b"Subject: Printer on fire\r\n\r\nPlease come.\r\n"
)
FIRST = "first-event"
"""The id of an event that was handled."""
Rows = dict[str, list[str]]
"""All rows of all tables, as text, by table."""


@dataclass(frozen=True, order=True)
class Parked:
    """A parked event: where, whose, and which."""

    queue: str
    publisher: str
    event_id: str


@dataclass
class House:
    """An installation, and what a forger may know of it."""

    it: Operated
    database: Database
    broker: Broker
    looking: asyncpg.Connection
    known: Known = field(default_factory=dict)
    """Values by the names of fields that would do harm in an event that is believed."""

    @property
    def services(self) -> Mapping[str, Service[Any]]:
        """All of them, by name."""
        return {service.name: service for service in installed_services()}

    def queues(self, key: str) -> list[str]:
        """The queues that are bound to a routing key."""
        return [
            queue_name(service.name, subscription.contract)
            for service in self.services.values()
            for subscription in service.subscriptions
            if key in binding_keys(subscription)
        ]

    @asynccontextmanager
    async def open(self, *names: str, relays: bool = False) -> AsyncIterator[None]:
        """Consumers and drains of all services, or of those named; relays only if asked for.

        At the exit, what is in hand has been settled or given back.
        """
        wanted: Callable[[str], bool] = lambda loop: (  # noqa: E731
            loop.startswith(("consume", "drain")) or (relays and loop == "relay")
        )
        async with AsyncExitStack() as held:
            for name in names or self.services:
                await held.enter_async_context(self._running(self.services[name], wanted))
            yield

    @asynccontextmanager
    async def _running(
        self, service: Service[Any], wanted: Callable[[str], bool]
    ) -> AsyncIterator[None]:
        common, own = settings.load(CommonSettings), settings.load(service.settings)
        resources = Resources(
            common=common,
            settings=own,
            engine=database.engine(own.database_url, service.name),
            objects=open_store(common.objects),
            messaging=service.messaging,
            replica=uuid4().hex,
        )
        broker = consume.broker_for(service, own)
        await broker.start()
        loops = [
            asyncio.ensure_future(loop())
            for name, loop in consume.tasks(service, broker, resources)
            if wanted(name)
        ]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await broker.stop()
            await resources.engine.dispose()

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """As somebody who may see everything."""
        return list(await self.looking.fetch(query, *arguments))

    async def all_rows(self) -> Rows:
        """Everything in every table of every service."""
        schemas = [service.messaging.schema for service in self.services.values()]
        tables = await self.rows(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname = ANY($1)",
            schemas,
        )
        return {
            table["name"]: [
                row["told"]
                for row in await self.rows(
                    f"SELECT each::text AS told FROM {table['name']} AS each ORDER BY 1"  # noqa: S608
                )
            ]
            for table in tables
        }

    async def parked(self) -> dict[Parked, str]:
        """What is parked anywhere, and why."""
        rows = await self._of_all("parked", "queue, publisher, event_id, reason")
        return {Parked(*row[:3]): row["reason"] for row in rows}

    async def handled(self) -> set[Parked]:
        """What a handler has seen, by the same three."""
        rows = await self._of_all("consumed", "queue, publisher, event_id")
        return {Parked(*row) for row in rows}

    async def _of_all(self, table: str, columns: str) -> list[Any]:
        schemas = [service.messaging.schema for service in self.services.values()]
        return await self.rows(
            " UNION ALL ".join(f"SELECT {columns} FROM {schema}.{table}" for schema in schemas)  # noqa: S608
        )

    async def has_parked(self, wanted: set[Parked]) -> bool:
        """Whether all of these are parked."""
        found = await self.parked()
        assert not (missing := wanted - found.keys()), sorted(missing)[:5]
        return True

    async def has_handled(self, wanted: set[Parked]) -> bool:
        """Whether all of these were handled."""
        found = await self.handled()
        assert not (missing := wanted - found), (sorted(missing)[:5], await self.parked())
        return True

    async def left_in_queues(self) -> dict[str, int]:
        """What lies in queues that are not empty, while nobody consumes."""
        left = {}
        async with await aio_pika.connect(self.broker.admin_url) as connection:
            channel = await connection.channel()
            for service in self.services.values():
                for name in consume.queues(service):
                    queue = await channel.get_queue(name)
                    left[name] = queue.declaration_result.message_count or 0
        return {name: count for name, count in left.items() if count}

    def an_example(self, contract: type[Contract], key: str) -> bytes:
        """The body of an event of this contract that would do harm."""
        return example(contract, key, self.known).model_dump_json(by_alias=True).encode()

    async def publish(self, user: str, key: str, body: bytes, **properties: Any) -> None:
        """As the user itself does."""
        async with await aio_pika.connect(self.broker.url(user)) as connection:
            exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
            usual: dict[str, Any] = {
                "user_id": user,
                "timestamp": clock.now(),
                "message_id": uuid4().hex,
            }
            await exchange.publish(aio_pika.Message(body, **(usual | properties)), key)

    async def begin(self) -> None:
        """Let a mail come, open a ticket and be acknowledged; nobody has sent that yet."""
        store = open_store(self.it.environment["MAILROOM_OBJECTS"])
        (ids,) = await self.rows(
            "SELECT accounts.id::text AS account, mailbox_id::text AS mailbox"
            " FROM directory.accounts WHERE name = 'service'"
        )
        account, mailbox = ids["account"], ids["mailbox"]
        first, second = await objects.put_many(store, [MAIL % b"first", MAIL % b"second"])
        self.known = {"account": account, "role": "inbox", "backfill": False, **first.model_dump()}
        async with self.open(relays=True):
            body = self.an_example(MailReceived, "mail.received")
            await self.publish(
                "fetcher", "mail.received", body, type="mail.received", message_id=FIRST
            )
            (asked,) = await until(lambda: self.rows("SELECT * FROM sender.requests"), within=30)
            await until(self._all_published, within=30)
        self.known = {
            **self.known,
            **second.model_dump(),
            "mailbox": mailbox,
            "publisher": asked["publisher"],
            "idempotency_key": asked["idempotency_key"],
            "record": {"kind": "ticket", "id": "1"},
            "kind": "account",
            "id": account,
        }

    async def told(self, name: str, count: int) -> list[dict[str, Any]]:
        """The bodies of so many events of this name that the services published."""
        rows = await self._of_all("outbox_sent", "body, type")
        events = [json.loads(row["body"]) for row in rows if row["type"] == name]
        assert len(events) == count, events
        return events

    async def _all_published(self) -> bool:
        return not await self._of_all("outbox", "id")
