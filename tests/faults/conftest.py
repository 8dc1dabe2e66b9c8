"""Firms to pull plugs of: one on the servers of the run, and one whose servers are its own.

Invariant: a test that disturbs a server takes the firm whose servers no other test uses.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy import local
from deploy.local import operating
from deploy.local.operating import Operated
from mailroom.messaging import topology
from tests.faults.firm import Firm, working
from tests.faults.lines import OwnServers, own_servers
from tests.installation import (
    OWNER,
    PUBLISHERS,
    Broker,
    Database,
    installed,
    installed_services,
    passwords,
)


@pytest.fixture(scope="session")
def firm(
    servers: local.Servers,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Iterator[Firm]:
    """One for all tests that ask for it; none of its services runs."""
    with _firm(servers, template, tmp_path_factory.mktemp("firm"), worker_id) as firm:
        yield firm


@pytest.fixture
def new_firm(
    servers: local.Servers, template: str, tmp_path: Path, worker_id: str
) -> Iterator[Firm]:
    """For one test alone, on the servers of the run; none of its services runs."""
    with _firm(servers, template, tmp_path, f"{worker_id}-{uuid4().hex[:8]}") as firm:
        yield firm


@pytest.fixture
def unprepared_firm(
    postgresql: local.Servers, servers: local.Servers, tmp_path: Path, worker_id: str
) -> Iterator[Firm]:
    """One whose database and vhost are still to be made; its roles and keys are there."""
    name = f"{worker_id}-{uuid4().hex[:8]}"
    database = Database(postgresql.postgresql, f"mailroom_{uuid4().hex}")
    broker = Broker(servers.rabbitmq, f"mailroom-firm-{name}")
    it = installed(servers, database, broker, tmp_path)
    with working(_for_tests(it), database, *_mail_urls(servers), is_prepared=False) as firm:
        yield firm
    local.drop_database(servers, database.name)
    local.rabbitmqctl(servers, "delete_vhost", broker.vhost)


@contextmanager
def _firm(servers: local.Servers, template: str, folder: Path, name: str) -> Iterator[Firm]:
    database = Database(servers.postgresql, f"mailroom_{uuid4().hex}")
    local.create_database(servers, database.name, template)
    broker = _another_vhost(servers, f"mailroom-firm-{name}")
    it = installed(servers, database, broker, folder)
    with working(_for_tests(it), database, *_mail_urls(servers)) as firm:
        yield firm
    local.drop_database(servers, database.name)
    local.rabbitmqctl(servers, "delete_vhost", broker.vhost)


def _mail_urls(servers: local.Servers) -> tuple[str, str]:
    imap, smtp = servers.dovecot.imaps, servers.postfix.submissions
    return f"imaps://{{user}}@localhost:{imap}", f"smtps://{{user}}@localhost:{smtp}"


@pytest.fixture(scope="session")
def own() -> Iterator[OwnServers]:
    """Servers that this worker has for itself, each behind a proxy; with fsync, as in earnest."""
    folder = Path(tempfile.mkdtemp(prefix="mailroom-faults-"))
    with own_servers(folder) as servers:
        yield servers
    local.remove(folder)


@pytest.fixture(scope="session")
def own_firm(own: OwnServers) -> Iterator[Firm]:
    """A firm that reaches its own servers through their proxies; none of its services runs.

    Accounts are read and sent from in plain text, so that a proxy sees what is said.
    """
    it = operating.prepared(own.servers)
    environment = own.through_proxies(it.environment)
    mail = (
        f"imap+plain://{{user}}@127.0.0.1:{own.imap.port}",
        f"smtp+plain://{{user}}@127.0.0.1:{own.smtp.port}",
    )
    database = Database(own.servers.postgresql, "mailroom")
    with working(_for_tests(Operated(it.servers, it.folder, environment)), database, *mail) as firm:
        yield firm


def _for_tests(it: Operated) -> Operated:
    settings = {
        "MAILROOM_HTTP": "127.0.0.1:0",
        "MAILROOM_CLOCK_OFFSET_FILE": str(it.folder / "offset"),
        # The sender's leases are waited for by no clock that a test could move, nor are these.
        "MAILROOM_SENDER_LEASE_SECONDS": "2",
        "MAILROOM_SENDER_POLL_SECONDS": "0.25",
        "MAILROOM_SENDER_ANSWER_SECONDS": "5",
        "MAILROOM_SENDER_DATA_SECONDS": "5",
    }
    return Operated(it.servers, it.folder, {**it.environment, **settings})


def _another_vhost(servers: local.Servers, name: str) -> Broker:
    """As the worker's own, which other tests empty."""
    services, broker = installed_services(), Broker(servers.rabbitmq, name)
    local.import_definitions(servers, topology.definitions(services, name, passwords(), PUBLISHERS))

    async def declare() -> None:
        async with await aio_pika.connect(broker.url(OWNER), timeout=10) as connection:
            await topology.declare(connection, services)

    asyncio.run(declare())
    return broker
