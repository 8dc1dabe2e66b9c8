"""A house for each test, with all its services."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy import local
from deploy.local.operating import Operated
from tests.forgery.house import House
from tests.installation import PUBLISHERS, Broker, Database, does, installed

PASSWORD = "a:pass word"


@pytest.fixture
def installation(
    servers: local.Servers,
    database: Database,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Operated:
    """Two accounts, of which the publisher may send with `service`; nothing has happened yet."""
    it = installed(servers, database, broker, tmp_path)
    for name, value in it.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("service", "sales"):
        address = f"{name}@firm.test"
        does(it, "mailbox", "add", name, "--address", address)
        does(
            it,
            *("account", "add", name, "--mailbox", name, "--address", address, "--no-test"),
            *("--imap", f"imaps://{address}@localhost:9", "--smtp", f"smtps://{address}@localhost"),
            "--password-stdin",
            text=PASSWORD,
        )
    does(it, "ticket-queue", "add", "Service", "--mailbox", "service", "--account", "service")
    does(it, "publisher", "add", PUBLISHERS[0], "--account", "service")
    return it


@pytest.fixture
async def house(installation: Operated, database: Database, broker: Broker) -> AsyncIterator[House]:
    """A ticket was opened, and its acknowledgement waits to be sent; nothing runs."""
    looking = await asyncpg.connect(database.superuser_url)
    house = House(installation, database, broker, looking)
    await house.begin()
    yield house
    await looking.close()
