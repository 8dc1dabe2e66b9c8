"""An installation for tests, as a customer's: own database, own vhost, services as processes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy import local
from deploy.local.installation import Place, environment
from deploy.local.operating import Operated, with_keys
from mailroom.messaging import topology
from tests.end_to_end.firm import Firm, working
from tests.installation import (
    OWNER,
    PUBLISHERS,
    Broker,
    Database,
    installed_services,
    password_of,
    service_names,
)


@pytest.fixture
def installation(
    servers: local.Servers, database: Database, broker: Broker, tmp_path: Path
) -> Operated:
    """Everything but the running services."""
    return _installed(servers, database, broker, tmp_path)


@pytest.fixture(scope="session")
def firm(
    servers: local.Servers,
    template: str,
    vhost: Broker,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Iterator[Firm]:
    """One for all tests that ask for it; none of its services runs."""
    database = Database(servers.postgresql, f"mailroom_{uuid4().hex}")
    local.create_database(servers, database.name, template)
    broker = _another_vhost(servers, f"mailroom-firm-{worker_id}")
    it = _installed(servers, database, broker, tmp_path_factory.mktemp("firm"))
    settings = {
        "MAILROOM_HTTP": "127.0.0.1:0",
        "MAILROOM_CLOCK_OFFSET_FILE": str(it.folder / "offset"),
        # The sender's leases are waited for by no clock that a test could move.
        "MAILROOM_SENDER_LEASE_SECONDS": "2",
        "MAILROOM_SENDER_POLL_SECONDS": "0.25",
    }
    with working(Operated(servers, it.folder, {**it.environment, **settings}), database) as firm:
        yield firm
    local.drop_database(servers, database.name)


def _installed(
    servers: local.Servers, database: Database, broker: Broker, folder: Path
) -> Operated:
    place = Place(folder, database.name, broker.vhost)
    made = environment(servers, place, _passwords(), PUBLISHERS)
    return with_keys(servers, place, made)


def _passwords() -> dict[str, str]:
    return {name: password_of(name) for name in (OWNER, *service_names(), *PUBLISHERS)}


def _another_vhost(servers: local.Servers, name: str) -> Broker:
    """As the worker's own, which other tests empty."""
    services, broker = installed_services(), Broker(servers.rabbitmq, name)
    local.import_definitions(
        servers, topology.definitions(services, name, _passwords(), PUBLISHERS)
    )

    async def declare() -> None:
        async with await aio_pika.connect(broker.url(OWNER), timeout=10) as connection:
            await topology.declare(connection, services)

    asyncio.run(declare())
    return broker
