"""An office that sends mail: an account at the private servers, the sender's parts, and a clock."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from nacl.public import PrivateKey
from pydantic_core import Url
from sqlalchemy import func, insert, select, union_all, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy import local
from mailroom import clock, directory, objects
from mailroom import database as databases
from mailroom.contracts import DirectoryChanged, MailCancel, MailSend
from mailroom.messaging import outbox
from mailroom.messaging.envelope import Received
from mailroom.service import Handler, Resources
from mailroom_directory import store as people
from mailroom_sender import filing, housekeeping, sending, service, store
from mailroom_sender.leases import Lease
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import attempts, copies, leases, messaging, rejections, requests
from tests.installation import Database
from tests.local.mail import PASSWORD
from tests.sender.inboxes import mailbox, mails_in
from tests.sender.wire import Wire, wire
from tests.waiting import until

ERP = "erp"
Server = tuple[str, int, str]
"""Host, port and TLS mode."""


@dataclass
class Office:
    """What a test of the sender holds."""

    servers: local.Servers
    database: Database
    resources: Resources[SenderSettings]
    key: PrivateKey
    offset: Path
    address: str
    account: UUID = field(default_factory=uuid4)
    broker_url: str = "amqp://sender@127.0.0.1/"

    def mailbox(self) -> str:
        """The address of somebody new, who can receive mail."""
        return mailbox(self.servers)

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[AsyncConnection]:
        """A transaction with the directory's own role."""
        engine = databases.engine(Url(self.database.url("directory")), "test", connections=1)
        try:
            async with engine.begin() as tx:
                yield tx
        finally:
            await engine.dispose()

    async def open(self) -> None:
        """Write the account into the directory, and let the publisher `erp` send with it."""
        publisher = uuid4()
        await self._add_account("office")
        async with self.directory() as tx:
            row = {"id": publisher, "name": ERP, "created_at": clock.now()}
            await tx.execute(insert(people.publishers), row)
            allowed = {"publisher_id": publisher, "account_id": self.account}
            await tx.execute(insert(people.publisher_accounts), allowed)

    async def branch(self) -> None:
        """Add another account of the same address, `branch`."""
        await replace(self, account=uuid4())._add_account("branch")

    async def _add_account(self, name: str) -> None:
        mailbox, at = uuid4(), {"created_at": clock.now()}
        account = {
            "id": self.account,
            "name": name,
            "address": self.address,
            "display_name": "Büro Müller",
            "mailbox_id": mailbox,
            "sent": "append",
            "unknown": "resend",
            "start": clock.now(),
            "interval_seconds": 60,
            "timezone": "UTC",
            "idle": True,
            "enabled": True,
        }
        async with self.directory() as tx:
            box = {"id": mailbox, "name": name, "kind": "central"}
            await tx.execute(insert(people.mailboxes), box | at)
            await tx.execute(insert(people.accounts), account | at)
        postfix, dovecot = self.servers.postfix, self.servers.dovecot
        await self.set_server("smtp", (postfix.host, postfix.submissions, "implicit"))
        await self.set_server("imap", (dovecot.host, dovecot.imaps, "implicit"))

    async def set_server(
        self, protocol: str, server: Server, password: str = PASSWORD, user: str | None = None
    ) -> None:
        """Where and how the account logs in."""
        host, port, tls = server
        user = self.address if user is None else user
        row = {
            "account_id": self.account,
            "protocol": protocol,
            "host": host,
            "port": port,
            "tls": tls,
            "username": user,
            "sealed_password": directory.seal(host, user, password, self.key.public_key),
        }
        await self.remove_server(protocol)
        async with self.directory() as tx:
            await tx.execute(insert(people.servers), row)

    async def remove_server(self, protocol: str) -> None:
        """Leave the account without this server."""
        table = people.servers
        of = (table.c.account_id == self.account) & (table.c.protocol == protocol)
        async with self.directory() as tx:
            await tx.execute(table.delete().where(of))

    async def change_account(self, **values: Any) -> None:
        """Set columns of the account."""
        table = people.accounts
        async with self.directory() as tx:
            await tx.execute(update(table).where(table.c.id == self.account).values(**values))

    async def remove_account(self) -> None:
        """Take it out of the directory."""
        of = people.publisher_accounts.c.account_id == self.account
        async with self.directory() as tx:
            await tx.execute(people.publisher_accounts.delete().where(of))
            await tx.execute(people.accounts.delete().where(people.accounts.c.id == self.account))

    async def handle(self, handler: Handler, *received: Received[Any]) -> None:
        """What the consumer does with a batch."""
        async with self.resources.engine.begin() as tx:
            events = await handler(tx, received, self.resources)
            await outbox.add(tx, messaging, events)

    async def ask(self, publisher: str = ERP, **asked: Any) -> str:
        """Hand one request to the sender's handler; its idempotency key."""
        command = request(**asked)
        await self.handle(service.send, received(command, publisher))
        return command.idempotency_key

    async def upload(self, content: bytes, publisher: str = ERP) -> str:
        """Put a file into the store for a publisher; its SHA-256."""
        stored = await objects.put(self.resources.objects, content)
        async with self.resources.engine.begin() as tx:
            await store.insert_uploads(tx, publisher, [stored], clock.now())
        return stored.sha256

    async def cancel(self, key: str, publisher: str = ERP) -> None:
        """Hand a cancellation to the sender's handler."""
        await self.handle(service.cancel, received(MailCancel(idempotency_key=key), publisher))

    async def account_changed(self) -> None:
        """Say so, as the directory does."""
        event = DirectoryChanged(kind="account", id=self.account)
        await self.handle(service.directory_changed, received(event, "directory"))

    async def told(self, name: str) -> list[dict[str, Any]]:
        """The bodies of all events of this name that were, or are to be, published."""
        queries = [
            select(table.c.created_at, table.c.id, table.c.body).where(table.c.type == name)
            for table in (messaging.outbox, messaging.outbox_sent)
        ]
        async with self.resources.engine.begin() as tx:
            rows = (await tx.execute(union_all(*queries).order_by("created_at", "id"))).all()
        return [json.loads(row.body) for row in rows]

    async def has_told(self, name: str, count: int) -> bool:
        """Whether so many events of this name were told."""
        return len(await self.told(name)) == count

    async def tells(self, name: str, within: float = 20) -> dict[str, Any]:
        """The first event of this name, as soon as there is one."""
        events = await until(lambda: self.told(name), within)
        return dict(events[0])

    async def row(self, key: str) -> dict[str, Any]:
        """A request as it is stored."""
        query = select(requests).where(requests.c.idempotency_key == key)
        async with self.resources.engine.begin() as tx:
            return dict((await tx.execute(query)).mappings().one())

    async def is_in(self, key: str, state: str, within: float = 20) -> dict[str, Any]:
        """The stored request, as soon as it is in this state."""

        async def there() -> dict[str, Any]:
            row = await self.row(key)
            assert row["state"] == state, row
            return row

        return dict(await until(there, within))

    async def count_requests(self) -> int:
        """How many requests were accepted."""
        async with self.resources.engine.begin() as tx:
            return int(await tx.scalar(select(func.count()).select_from(requests)) or 0)

    async def rejections(self) -> list[dict[str, Any]]:
        """What was rejected, as it is stored."""
        async with self.resources.engine.begin() as tx:
            return [dict(row) for row in (await tx.execute(select(rejections))).mappings()]

    async def forget_old(self) -> None:
        """What the sender does every hour."""
        await housekeeping.forget_once(self.resources)

    async def tried(self, key: str, times: int, within: float = 20) -> dict[str, Any]:
        """The stored request, as soon as so many tries have ended."""

        async def there() -> dict[str, Any]:
            row = await self.row(key)
            assert row["tries"] == times, row
            assert row["state"] != "sending"
            return row

        return dict(await until(there, within))

    async def attempts(self, key: str) -> list[dict[str, Any]]:
        """All tries of a request, in order."""
        query = select(attempts).join(requests, requests.c.mail == attempts.c.mail)
        query = query.where(requests.c.idempotency_key == key).order_by(attempts.c.number)
        async with self.resources.engine.begin() as tx:
            return [dict(row) for row in (await tx.execute(query)).mappings()]

    async def has_due(self, count: int) -> bool:
        """Whether so many requests are due."""
        due = select(func.count()).where(requests.c.due <= self.now())
        async with self.resources.engine.begin() as tx:
            return bool((await tx.scalar(due)) == count)

    async def take_lease(self, work: str) -> None:
        """Give the account to another replica."""
        taken = update(leases).where(leases.c.account == self.account, leases.c.work == work)
        async with self.resources.engine.begin() as tx:
            await tx.execute(taken.values(holder="another", beat=leases.c.beat + 1))

    async def lease_holder(self, work: str) -> str | None:
        """Who works for the account."""
        held = select(leases.c.holder).where(
            leases.c.account == self.account, leases.c.work == work
        )
        async with self.resources.engine.begin() as tx:
            return await tx.scalar(held)

    async def copy(self, key: str) -> dict[str, Any]:
        """The copy of what was sent, as it is stored."""
        query = select(copies).join(requests, requests.c.mail == copies.c.mail)
        async with self.resources.engine.begin() as tx:
            found = await tx.execute(query.where(requests.c.idempotency_key == key))
            row = found.mappings().one_or_none()
        assert row is not None
        return dict(row)

    async def copy_tried(self, key: str, times: int) -> dict[str, Any]:
        """The copy, if so many tries to file it have failed."""
        copy = await self.copy(key)
        assert (copy["tries"], bool(copy["problem"])) == (times, True), copy
        # A try counts from its beginning, and it is put off when it has ended.
        assert copy["due"] is None or copy["due"] > self.now(), copy
        return copy

    async def copy_is(self, key: str, state: str) -> dict[str, Any]:
        """The copy, if it is in this state."""
        copy = await self.copy(key)
        assert copy["state"] == state, copy
        return copy

    async def just_sent(self, rate: int) -> int:
        """How many mails of the last minute a new process would count."""
        settings = self.resources.settings.model_copy(update={"rate_per_minute": rate})
        lease = Lease(self.account, "send", "another", time.monotonic() + 60)
        link = await sending._link(replace(self.resources, settings=settings), lease)
        return len(link.given)

    async def recover(self) -> None:
        """What the other replica does first."""
        lease = Lease(self.account, "send", "another", time.monotonic() + 60)
        await sending._recover(self.resources, lease)

    async def break_database_connections(self) -> None:
        """End every connection of the sender, as a restart of PostgreSQL does."""
        connection = await asyncpg.connect(self.database.superuser_url)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'mailroom_sender' AND datname = current_database()"
        )
        await connection.close()
        with suppress(DBAPIError):
            await self.told("mail.sent")

    @asynccontextmanager
    async def locked_leases(self) -> AsyncIterator[None]:
        """Nobody can renew a lease meanwhile."""
        connection = await asyncpg.connect(self.database.superuser_url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE sender.leases IN ACCESS EXCLUSIVE MODE")
            yield
        await connection.close()

    def lose_object(self, sha256: str) -> None:
        """Take an object out of the store."""
        (Path(self.resources.common.objects) / sha256[:2] / sha256).unlink()

    def wire(self, listen: int = 0) -> AbstractAsyncContextManager[Wire]:
        """A line to Postfix's port for strangers, on which a test can lay hands."""
        return wire(self.servers.postfix.host, self.servers.postfix.smtp, listen)

    async def send_by(self, line: Wire) -> None:
        """Let the account send over this line."""
        await self.set_server("smtp", ("127.0.0.1", line.port, "none"), user="")

    def free_port(self) -> int:
        """A loopback port at which nothing listens."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        return port

    @asynccontextmanager
    async def sending(self, replicas: int = 1, **settings: Any) -> AsyncIterator[None]:
        """Run the sender's tasks, in as many replicas, each with connections of its own."""
        tasks, engines = [], []
        for _ in range(replicas):
            engines.append(databases.engine(self.resources.settings.database_url, "replica"))
            own = replace(
                self.resources,
                engine=engines[-1],
                replica=uuid4().hex,
                settings=self.resources.settings.model_copy(update=settings),
            )
            tasks += [asyncio.create_task(sending.send_mails(own))]
            tasks += [asyncio.create_task(filing.file_copies(own))]
        try:
            yield
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for engine in engines:
                await engine.dispose()

    def now(self) -> datetime:
        """The time of day, as moved."""
        return clock.now()

    def move_clock(self, by: timedelta) -> None:
        """Set the time of day forward, for all processes."""
        before = float(self.offset.read_text() or 0) if self.offset.exists() else 0
        self.offset.write_text(str(before + by.total_seconds()))

    async def mails(self, address: str, folder: str = "INBOX") -> list[Message]:
        """All mails in a folder."""
        return await mails_in(self.servers, address, folder)

    async def has_mails(self, address: str, folder: str, count: int) -> bool:
        """Whether so many mails lie in a folder."""
        return len(await self.mails(address, folder)) == count

    async def gets(self, address: str, count: int = 1, within: float = 20) -> list[Message]:
        """The mails of somebody's inbox, as soon as there are so many."""

        async def there() -> list[Message]:
            mails = await self.mails(address)
            assert len(mails) == count, f"{len(mails)} mails for {address}"
            return mails

        return await until(there, within)

    @asynccontextmanager
    async def process(
        self, *mailroom: str, **environment: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """`mailroom serve sender`, a process of its own; ended by SIGTERM if it still runs."""
        running = await asyncio.create_subprocess_exec(
            *(mailroom or ("mailroom",)), "serve", "sender", env=self.environment | environment
        )
        try:
            yield running
        finally:
            if running.returncode is None:
                running.terminate()
            await asyncio.wait_for(running.wait(), 30)

    @property
    def environment(self) -> dict[str, str]:
        """What a process of the sender needs."""
        settings = self.resources.settings
        return {
            **os.environ,
            "MAILROOM_OBJECTS": self.resources.common.objects,
            "MAILROOM_TLS_CA_FILE": str(self.servers.ca_file),
            "MAILROOM_HTTP": "127.0.0.1:0",
            "MAILROOM_LOG_FORMAT": "text",
            "MAILROOM_SENDER_DATABASE_URL": str(settings.database_url),
            "MAILROOM_SENDER_BROKER_URL": self.broker_url,
            "MAILROOM_SENDER_UNSEAL_KEYS_FILE": str(settings.unseal_keys_file),
            "MAILROOM_SENDER_LEASE_SECONDS": "2",
            "MAILROOM_CLOCK_OFFSET_FILE": str(self.offset),
        }


def request(**asked: Any) -> MailSend:
    """A request that wants what is said, and has the rest as usual."""
    usual = {
        "idempotency_key": uuid4().hex,
        "account": "office",
        "subject": "Ihre Bestellung",
        "text": "Guten Tag",
    }
    return MailSend.model_validate(usual | asked)


def to(*addresses: str) -> list[dict[str, str]]:
    """Recipients of a request."""
    return [{"address": address} for address in addresses]


def received(event: Any, publisher: str, event_id: str | None = None) -> Received[Any]:
    """An event as a handler gets it."""
    id_ = event_id or uuid4().hex
    return Received(id_, event, publisher, correlation_id=f"c-{id_}", published_at=clock.now())
