"""An installation for the router: its own connections, a directory with people in it, objects."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic_core import Url
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailroom import database as databases
from mailroom.objects import open_store
from mailroom.service import Resources
from mailroom.settings import CommonSettings
from mailroom_directory import store as directory
from mailroom_router.service import SERVICE as ROUTER
from mailroom_router.settings import RouterSettings
from tests.installation import Database
from tests.router import samples


@pytest.fixture
def settings(database: Database) -> RouterSettings:
    """As the running service has them; no broker is asked."""
    return RouterSettings.model_validate(
        {"database_url": database.url("router"), "broker_url": "amqp://router@127.0.0.1/"}
    )


@pytest.fixture
async def engine(settings: RouterSettings) -> AsyncIterator[AsyncEngine]:
    """With the router's own role."""
    made = databases.engine(settings.database_url, "router tests")
    yield made
    await made.dispose()


@pytest.fixture
async def tx(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back."""
    async with engine.connect() as connection:
        yield connection


@pytest.fixture
def people(database: Database) -> Database:
    """The database, with the mailboxes and accounts of `samples` in its directory."""
    # In a thread of its own: the test's event loop may be there already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _write_people(database.url("directory"))).result()
    return database


@pytest.fixture
def resources(
    people: Database, settings: RouterSettings, engine: AsyncEngine, tmp_path: Path
) -> Resources[RouterSettings]:
    """What the handlers get, with an object store of its own."""
    return Resources(
        common=CommonSettings(objects=str(tmp_path)),
        settings=settings,
        engine=engine,
        objects=open_store(str(tmp_path)),
        messaging=ROUTER.messaging,
        replica="test",
    )


async def _write_people(url: str) -> None:
    made = databases.engine(Url(url), "test", connections=1)
    when = {"created_at": samples.NOW}
    mailboxes = samples.a_world().mailboxes.values()
    accounts = samples.a_world().accounts.values()
    async with made.begin() as tx:
        await tx.execute(
            insert(directory.users),
            [
                {"id": user, "name": name, "display_name": name, **when}
                for name, user in (("alice", samples.ALICE), ("bob", samples.BOB))
            ],
        )
        await tx.execute(
            insert(directory.mailboxes),
            [
                {"id": one.id, "name": one.name, "kind": one.kind, "owner_id": one.owner, **when}
                for one in mailboxes
            ],
        )
        await tx.execute(
            insert(directory.mailbox_addresses),
            [
                {"mailbox_id": one.id, "address": address}
                for one in mailboxes
                for address in one.addresses
            ],
        )
        usual = {
            "display_name": "",
            "sent": "append",
            "unknown": "resend",
            "start": samples.NOW,
            "interval_seconds": 60,
            "timezone": "UTC",
            "idle": True,
            "enabled": True,
        }
        await tx.execute(
            insert(directory.accounts),
            [
                {
                    "id": one.id,
                    "name": one.name,
                    "address": one.address,
                    "mailbox_id": one.mailbox,
                    **usual,
                    **when,
                }
                for one in accounts
            ],
        )
    await made.dispose()
