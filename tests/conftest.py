"""Private servers for the tests: once a run, shared by all workers, started when a test asks.

Invariant: tests that ask for no server start none, and nothing outlives the run: the process that
runs or distributes the tests holds the servers, and they end with it, even if it is killed.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy import local
from tests.imported import imported
from tests.installation import (
    OWNER,
    Broker,
    Database,
    all_queues,
    emptied,
    in_a_thread,
    installed_services,
    password_of,
    service_names,
    vhost_made,
)
from tests.servers import GIVEN, once
from tests.servers import held as servers_folder

_FOLDER = pytest.StashKey[Path]()
_HELD = pytest.StashKey[ExitStack]()
_TEMPLATE = "mailroom_template"


def pytest_configure(config: pytest.Config) -> None:
    """The launcher is who was there before, or the process that distributes or runs the tests."""
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        config.stash[_FOLDER] = Path(workerinput["servers"])
    elif GIVEN in os.environ:
        config.stash[_FOLDER] = Path(os.environ[GIVEN])
    else:
        held = config.stash[_HELD] = ExitStack()
        config.stash[_FOLDER] = held.enter_context(servers_folder())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End all servers and remove their folder."""
    if _HELD in config.stash:
        config.stash[_HELD].close()


def pytest_collection_finish() -> None:
    """What is there now stays to the end: nobody need look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker where the servers are."""
    node.workerinput["servers"] = str(node.config.stash[_FOLDER])


@pytest.fixture(scope="session")
def worker_id(worker_id: str) -> str:
    """What tells runs apart that share servers: their vhosts are named by it."""
    return os.environ.get("MAILROOM_TEST_WORKER", worker_id)


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share, and no other run: servers may be older."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(pytestconfig, "workerinput") else own


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the PATH with `mailroom`, which need not be imported anew each time."""
    with imported(tmp_path_factory.mktemp("programs")) as folder:
        yield folder


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> local.Servers:
    """All four servers, running."""
    return local.started(pytestconfig.stash[_FOLDER])


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> local.Servers:
    """PostgreSQL, running, with the roles of all services; it may be the only one."""
    servers = local.started(pytestconfig.stash[_FOLDER], {"postgresql"})
    with once(servers.folder, "roles") as first:
        if first:
            names = service_names()
            local.create_roles(
                servers, names, {name: password_of(name) for name in [OWNER, *names]}
            )
    return servers


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> local.Servers:
    """RabbitMQ, running; it may be the only one."""
    return local.started(pytestconfig.stash[_FOLDER], {"rabbitmq"})


@pytest.fixture(scope="session")
def dovecot(pytestconfig: pytest.Config) -> local.Servers:
    """Dovecot, running; it may be the only one."""
    return local.started(pytestconfig.stash[_FOLDER], {"dovecot"})


@pytest.fixture(scope="session")
def template(postgresql: local.Servers) -> str:
    """The migrated database that all others are copies of; nobody may be connected to it."""
    with once(postgresql.folder, "template") as first:
        if first:
            # A worker that failed may have left a half-migrated one.
            local.drop_database(postgresql, _TEMPLATE)
            local.create_database(postgresql, _TEMPLATE)
            _migrate(Database(postgresql.postgresql, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database(postgresql: local.Servers, template: str) -> Iterator[Database]:
    """A migrated database for this test alone (50 ms)."""
    name = f"mailroom_{uuid4().hex}"
    local.create_database(postgresql, name, template)
    yield Database(postgresql.postgresql, name)
    local.drop_database(postgresql, name)


def _migrate(database: Database) -> None:
    """As `mailroom migrate` does it, without the broker's part."""
    # Imported here: tests of other things shall not fail, or wait, for it.
    from mailroom.migrations import migrate_database  # noqa: PLC0415
    from mailroom.settings import OwnerSettings  # noqa: PLC0415

    owner = OwnerSettings.model_validate(
        {"database_url": database.url(OWNER), "broker_url": "amqp://nobody@127.0.0.1/"}
    )
    in_a_thread(migrate_database(owner, installed_services()))


@pytest.fixture(scope="session")
def vhost(rabbitmq: local.Servers, worker_id: str) -> Broker:
    """This worker's vhost, with what `mailroom migrate` declares, and a user for each service."""
    return vhost_made(rabbitmq, f"mailroom-{worker_id}", installed_services())


@pytest.fixture
async def broker(vhost: Broker) -> Broker:
    """This worker's vhost: nobody consumes, and every queue is empty."""
    await emptied(vhost, all_queues())
    return vhost
