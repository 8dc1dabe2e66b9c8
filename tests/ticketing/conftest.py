"""An installation for ticketing: its own role, a directory with two desks in it, objects, keys."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic_core import Url
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from mailroom import database as databases
from mailroom.objects import open_store
from mailroom.service import Resources
from mailroom.settings import CommonSettings
from mailroom_directory import store as directory
from mailroom_ticketing import store
from mailroom_ticketing.service import SERVICE
from mailroom_ticketing.settings import TicketingSettings
from tests.installation import Database
from tests.ticketing import desk
from tests.ticketing.bench import Bench


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The key ring that `desk.RING` stands for."""
    file = tmp_path / "tag-keys"
    file.write_text(f"test:{desk.RING.keys[0].hex()}\n")
    return file


@pytest.fixture
def settings(database: Database, key_file: Path) -> TicketingSettings:
    """As the running service has them; no broker is asked."""
    return TicketingSettings.model_validate(
        {
            "database_url": database.url("ticketing"),
            "broker_url": "amqp://ticketing@127.0.0.1/",
            "tag_keys_file": key_file,
            "installation": desk.RING.installation,
        }
    )


@pytest.fixture
async def engine(settings: TicketingSettings) -> AsyncIterator[AsyncEngine]:
    """With ticketing's own role."""
    made = databases.engine(settings.database_url, "ticketing tests")
    yield made
    await made.dispose()


@pytest.fixture
def desks(database: Database) -> Database:
    """The database, with the mailboxes, account and ticket queues of `desk`."""
    # In a thread of its own: the test's event loop may be there already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _write_directory(database.url("directory"))).result()
        thread.submit(asyncio.run, _write_ticket_queues(database.url("ticketing"))).result()
    return database


@pytest.fixture
def bench(
    desks: Database, settings: TicketingSettings, engine: AsyncEngine, tmp_path: Path
) -> Bench:
    """The handlers on a real database, each batch in its own transaction."""
    return Bench(
        Resources(
            common=CommonSettings(objects=str(tmp_path / "objects")),
            settings=settings,
            engine=engine,
            objects=open_store(str(tmp_path / "objects")),
            messaging=SERVICE.messaging,
            replica="test",
        )
    )


async def _write_directory(url: str) -> None:
    made = databases.engine(Url(url), "test", connections=1)
    when = {"created_at": desk.NOON}
    names = {"service": desk.SERVICE_MAILBOX, "sales": desk.SALES_MAILBOX}
    names["other"] = desk.PRIVATE_DESK
    async with made.begin() as tx:
        await tx.execute(
            insert(directory.mailboxes),
            [{"id": each, "name": name, "kind": "central", **when} for name, each in names.items()],
        )
        await tx.execute(
            insert(directory.accounts),
            [
                {
                    "id": desk.ACCOUNT,
                    "name": "service",
                    "address": desk.US,
                    "display_name": "Acme Service",
                    "mailbox_id": desk.SERVICE_MAILBOX,
                    "sent": "append",
                    "unknown": "resend",
                    "start": desk.NOON,
                    "interval_seconds": 60,
                    "timezone": "UTC",
                    "idle": True,
                    "enabled": True,
                    **when,
                }
            ],
        )
        await tx.execute(
            insert(directory.servers),
            {
                "account_id": desk.ACCOUNT,
                "protocol": "smtp",
                "host": "localhost",
                "port": 25,
                "tls": "none",
                "username": "service",
                "sealed_password": b"",
            },
        )
    await made.dispose()


async def _write_ticket_queues(url: str) -> None:
    made = databases.engine(Url(url), "test", connections=1)
    async with made.begin() as tx:
        for queue in (desk.SERVICE, desk.SALES):
            await store.add_ticket_queue(tx, queue, desk.NOON)
        await store.add_feed(tx, desk.SERVICE_MAILBOX, desk.SERVICE.id)
        await store.add_feed(tx, desk.SALES_MAILBOX, desk.SALES.id)
    await made.dispose()
