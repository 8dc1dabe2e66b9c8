"""An office that sends mail, on the private servers."""

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from nacl.public import PrivateKey

from deploy import local
from mailroom import database as databases
from mailroom.objects import open_store
from mailroom.service import Resources
from mailroom.settings import CommonSettings
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import messaging
from tests.installation import Broker, Database, password_of
from tests.local.mail import PASSWORD
from tests.sender.office import Office


@pytest.fixture
async def office(
    servers: local.Servers,
    database: Database,
    programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Office]:
    """An account at the servers, and nothing sent yet. No sender runs until a test starts it."""
    key, keys = PrivateKey.generate(), tmp_path / "keys"
    keys.write_text(base64.b64encode(bytes(key)).decode())
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    offset = tmp_path / "offset"
    monkeypatch.setenv("MAILROOM_CLOCK_OFFSET_FILE", str(offset))
    settings = SenderSettings.model_validate(
        {
            "database_url": database.url("sender"),
            "broker_url": f"amqp://sender:{password_of('sender')}@127.0.0.1/",
            "unseal_keys_file": keys,
            "lease_seconds": 3,
            "idle_seconds": 1,
            "poll_seconds": 0.1,
        }
    )
    engine = databases.engine(settings.database_url, "sender tests")
    objects = str(tmp_path / "objects")
    resources = Resources(
        common=CommonSettings(objects=objects, tls_ca_file=servers.ca_file),
        settings=settings,
        engine=engine,
        objects=open_store(objects),
        messaging=messaging,
        replica="test",
    )
    address = f"office{uuid4().hex}@example.com"
    local.add_mail_user(servers, address, PASSWORD)
    office = Office(servers, database, resources, key, offset, address)
    await office.open()
    yield office
    await engine.dispose()


@pytest.fixture
def served(office: Office, broker: Broker) -> Office:
    """The office, with a broker for `mailroom serve sender`."""
    office.broker_url = broker.url("sender")
    return office
