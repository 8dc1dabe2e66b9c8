"""The installation that messaging is tried on: two services of its own, migrated and declared."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from deploy import local
from mailroom.messaging import topology
from mailroom.messaging.migration import create_messaging_tables
from mailroom.migrations import grant_schema
from tests.installation import (
    OWNER,
    Broker,
    Database,
    emptied,
    in_a_thread,
    password_of,
    queues_of,
    vhost_made,
)
from tests.messaging.clock import Clock
from tests.messaging.world import SERVICES, World, desk_metadata, orders
from tests.servers import once

FOREIGN = ["erp", "web"]
NAMES = [service.name for service in SERVICES]
ROOT = Path(__file__).parents[2]
_TEMPLATE = "messaging_template"


def migrate(database: Database) -> None:
    """As the services' own migrations would."""
    in_a_thread(_migrate(database.url(OWNER)))


async def _migrate(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as tx:
        await tx.run_sync(_upgrade)
    await engine.dispose()


def _upgrade(connection: Connection) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        for name in NAMES:
            connection.execute(text(f"CREATE SCHEMA {name}"))
            connection.execute(text(f"CREATE TABLE {name}.alembic_version (version_num text)"))
            create_messaging_tables(name)
            if name == desk_metadata.schema:
                orders.create(connection)
            grant_schema(name, f"mailroom_{name}")


async def declare(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url(OWNER), timeout=10) as connection:
        await topology.declare(connection, SERVICES)


@pytest.fixture(scope="session")
def template(postgresql: local.Servers) -> str:
    """A migrated database of both services, to be copied."""
    with once(postgresql.folder, _TEMPLATE) as first:
        if first:
            # A worker that failed may have left a half-migrated one.
            local.drop_database(postgresql, _TEMPLATE)
            passwords = {name: password_of(name) for name in [OWNER, *NAMES]}
            local.create_roles(postgresql, NAMES, passwords)
            local.create_database(postgresql, _TEMPLATE)
            migrate(Database(postgresql.postgresql, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database(postgresql: local.Servers, template: str) -> Iterator[Database]:
    """A migrated database for this test alone."""
    name = f"messaging_{uuid4().hex}"
    local.create_database(postgresql, name, template)
    yield Database(postgresql.postgresql, name)
    local.drop_database(postgresql, name)


@pytest.fixture(scope="session")
def vhost(rabbitmq: local.Servers, worker_id: str) -> Broker:
    """This worker's vhost."""
    return vhost_made(rabbitmq, f"messaging-{worker_id}", SERVICES, FOREIGN)


@pytest.fixture
async def broker(vhost: Broker) -> Broker:
    """This worker's vhost: nobody consumes, and every queue is there and empty."""
    # Some tests remove one.
    await declare(vhost)
    await emptied(vhost, [*queues(), topology.BURIED])
    return vhost


def queues() -> list[str]:
    """Of both services."""
    return [queue for service in SERVICES for queue in queues_of(service)]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Mailroom's clock, in this test's hand."""
    monkeypatch.setenv("MAILROOM_CLOCK_OFFSET_FILE", str(tmp_path / "offset"))
    return Clock(tmp_path / "offset")


@pytest.fixture
async def world(database: Database, broker: Broker) -> AsyncIterator[World]:
    """Both services, ready to run."""
    world = World(database, broker)
    yield world
    await world.close()


@pytest.fixture
def installation(tmp_path: Path, programs: Path, world: World) -> dict[str, str]:
    """The environment of a machine on which both services are installed, as a third party's."""
    package = tmp_path / "shop_and_desk-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-and-desk\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[mailroom.services]\n"
        "desk = tests.messaging.world:DESK\n"
        "shop = tests.messaging.world:SHOP\n"
    )
    urls = {
        f"MAILROOM_{name.upper()}_{kind}_URL": url
        for name in ("shop", "desk")
        for kind, url in (
            ("DATABASE", world.database.url(name)),
            ("BROKER", world.broker.url(name)),
        )
    }
    common = {"MAILROOM_OBJECTS": str(tmp_path / "objects"), "MAILROOM_HTTP": "127.0.0.1:0"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAILROOM_")}
    paths = {
        "PATH": f"{programs}{os.pathsep}{kept['PATH']}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    return kept | urls | common | paths
