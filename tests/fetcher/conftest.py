"""An office with accounts at the real Dovecot, for the fetcher."""

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from nacl.public import PrivateKey
from pydantic_core import Url

from deploy import local
from mailroom import database as databases
from mailroom_fetcher.settings import FetcherSettings
from tests.fetcher.office import Office
from tests.imap.between import Between, between
from tests.installation import Database


@pytest.fixture
async def office(
    dovecot: local.Servers, database: Database, tmp_path: Path
) -> AsyncIterator[Office]:
    """An installation without accounts."""
    key = PrivateKey.generate()
    ring = tmp_path / "unseal.keys"
    ring.write_text(base64.b64encode(bytes(key)).decode())
    settings = FetcherSettings.model_validate(
        {
            "database_url": database.url("fetcher"),
            "broker_url": "amqp://fetcher@127.0.0.1/",
            "unseal_keys_file": ring,
        }
    )
    engine = databases.engine(settings.database_url, "fetcher tests")
    people = databases.engine(Url(database.url("directory")), "directory tests")
    yield Office(
        servers=dovecot,
        database=database,
        settings=settings,
        seal_key=key.public_key,
        objects=tmp_path / "objects",
        engine=engine,
        people=people,
    )
    await engine.dispose()
    await people.dispose()


@pytest.fixture
def clock_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of this process, and of those that it starts, by so many seconds."""
    file = tmp_path / "clock"
    monkeypatch.setenv("MAILROOM_CLOCK_OFFSET_FILE", str(file))
    return lambda seconds: (file.write_text(str(seconds)), None)[1]


@pytest.fixture
async def middle(dovecot: local.Servers) -> AsyncIterator[Between]:
    """Between the fetcher and Dovecot."""
    async with between(dovecot.dovecot.host, dovecot.dovecot.imap) as made:
        yield made
