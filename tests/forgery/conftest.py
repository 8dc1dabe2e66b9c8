"""A house for each test, with all its services."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from deploy import local
from deploy.local.operating import Operated
from mailroom.cli import mailroom
from tests.forgery.house import House
from tests.installation import PUBLISHERS, Broker, Database, installed

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
        _does("mailbox", "add", name, "--address", address)
        _does(
            *("account", "add", name, "--mailbox", name, "--address", address, "--no-test"),
            *("--imap", f"imaps://{address}@localhost:9", "--smtp", f"smtps://{address}@localhost"),
            "--password-stdin",
            text=PASSWORD,
        )
    _does("ticket-queue", "add", "Service", "--mailbox", "service", "--account", "service")
    _does("publisher", "add", PUBLISHERS[0], "--account", "service")
    return it


@pytest.fixture
async def house(installation: Operated, database: Database, broker: Broker) -> AsyncIterator[House]:
    """A ticket was opened, and its acknowledgement waits to be sent; nothing runs."""
    looking = await asyncpg.connect(database.superuser_url)
    house = House(installation, database, broker, looking)
    await house.begin()
    yield house
    await looking.close()


def _does(*words: str, text: str | None = None) -> None:
    done = CliRunner().invoke(mailroom, words, input=text)
    assert done.exit_code == 0, (words, done.output, done.exception)
