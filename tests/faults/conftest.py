"""Firms to pull plugs of: one on the servers of the run, and one whose servers are its own.

Invariant: a test that disturbs a server takes the firm whose servers no other test uses.
"""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy import local
from deploy.local import guarded, operating
from deploy.local.operating import Operated
from tests.faults.firm import PATIENCE, Firm, working
from tests.faults.lines import OwnServers, own_servers
from tests.faults.mails import Dialogue
from tests.faults.nursery import Nursery, nursery
from tests.installation import (
    Broker,
    Database,
    all_queues,
    emptied,
    in_a_thread,
    installed,
    installed_services,
    vhost_made,
)

_OWN_TEMPLATE = "mailroom"
_LINES = 60
"""Of each service's log, what a failed test shows."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-faults` runs, beside what is marked `matrix` anywhere.

    Who needs servers of its own comes first: one worker gets them all, and starts those once.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.fault)
    items.sort(key=lambda item: "own" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the services of a firm said, where a test with one has failed."""
    report = yield
    firms = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Firm)]
    if report.failed and firms:
        for name, process in sorted(firms[0].processes.items()):
            log = (process.guard.folder / guarded.LOG).read_text(errors="replace")
            report.sections.append((f"log of {name}", "\n".join(log.splitlines()[-_LINES:])))
    return report


@pytest.fixture(scope="session")
def born() -> Iterator[Nursery]:
    """Where the services of this worker's firms are born."""
    with nursery() as made:
        yield made


@pytest.fixture(scope="session")
def firm(
    servers: local.Servers, template: str, tmp_path_factory: pytest.TempPathFactory, born: Nursery
) -> Iterator[Firm]:
    """One for all tests that ask for it; none of its services runs."""
    with (
        _another_vhost(servers) as broker,
        _firm(servers, template, broker, tmp_path_factory.mktemp("firm"), born) as firm,
    ):
        yield firm


@pytest.fixture(scope="session")
def left_vhost(servers: local.Servers) -> Iterator[Broker]:
    """Where one `new_firm` after another works: to make one takes three seconds."""
    with _another_vhost(servers) as broker:
        yield broker


@pytest.fixture
def new_firm(
    servers: local.Servers, template: str, left_vhost: Broker, tmp_path: Path, born: Nursery
) -> Iterator[Firm]:
    """For one test alone, on the servers of the run; none of its services runs."""
    in_a_thread(emptied(left_vhost, all_queues()))
    with _firm(servers, template, left_vhost, tmp_path, born) as firm:
        yield firm


@pytest.fixture
def unprepared_firm(
    postgresql: local.Servers, servers: local.Servers, tmp_path: Path
) -> Iterator[Firm]:
    """One whose database and vhost are still to be made; its roles and keys are there.

    Its services are started by their command.
    """
    database = Database(postgresql.postgresql, f"mailroom_{uuid4().hex}")
    broker = Broker(servers.rabbitmq, f"mailroom-firm-{uuid4().hex[:8]}")
    it = installed(servers, database, broker, tmp_path)
    with working(_for_tests(it), database, _mail_urls(servers)) as firm:
        yield firm
    local.drop_database(servers, database.name)
    local.rabbitmqctl(servers, "delete_vhost", broker.vhost)


@contextmanager
def _firm(
    servers: local.Servers, template: str, broker: Broker, folder: Path, born: Nursery
) -> Iterator[Firm]:
    database = Database(servers.postgresql, f"mailroom_{uuid4().hex}")
    local.create_database(servers, database.name, template)
    it = installed(servers, database, broker, folder)
    with working(_for_tests(it), database, _mail_urls(servers), born) as firm:
        firm.set_up()
        yield firm
    local.drop_database(servers, database.name)


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
def own_installation(own: OwnServers) -> Operated:
    """What all firms on these servers share. Nobody works on its database: it is their template."""
    return operating.prepared(own.servers)


@pytest.fixture(scope="session")
def own_firm(own: OwnServers, own_installation: Operated, born: Nursery) -> Iterator[Firm]:
    """A firm that reaches its own servers through their proxies; none of its services runs."""
    with exposed_firm(own, own_installation, "mailroom_own", born) as firm:
        yield firm


@contextmanager
def exposed_firm(own: OwnServers, shared: Operated, name: str, born: Nursery) -> Iterator[Firm]:
    """A firm with a database of this name, at the end of the lines to a worker's own servers.

    Accounts are read and sent from in plain text, so that a proxy sees what is said. All share the
    vhost, declared long before: RabbitMQ 3.10.8 killed soon after a declaration may lose a queue.
    """
    folder = own.servers.folder / name
    folder.mkdir(mode=0o700)
    local.create_database(own.servers, name, _OWN_TEMPLATE)
    environment = {
        variable: value.removesuffix(_OWN_TEMPLATE) + name if "_DATABASE_" in variable else value
        for variable, value in own.through_proxies(shared.environment).items()
    }
    environment["MAILROOM_OBJECTS"] = str(folder / "objects")
    it = Operated(own.servers, folder, environment)
    mail = (
        f"imap+plain://{{user}}@127.0.0.1:{own.imap.port}",
        f"smtp+plain://{{user}}@127.0.0.1:{own.smtp.port}",
    )
    with working(_for_tests(it), Database(own.servers.postgresql, name), mail, born) as firm:
        firm.set_up()
        yield firm
    # What a failed test has left in the queues would not be understood by the next firm.
    own.heal()
    local.purge_queues(own.servers)


@pytest.fixture(scope="module")
def own_working(own_firm: Firm) -> Iterator[Firm]:
    """It works for one module: who else works on these servers shares its queues."""
    yield own_firm
    own_firm.kill_all()


@pytest.fixture
def healed(own: OwnServers, own_working: Firm) -> Iterator[Firm]:
    """The firm on its own servers, all of which run; and they do again afterwards."""
    own.heal()
    own_working.start_missing()
    yield own_working
    own.heal()


@pytest.fixture(scope="session")
def opened() -> list[Dialogue]:
    """A ticket of the firm on its own servers that a case has left in order, for the next one."""
    return []


@pytest.fixture
def mails(request: pytest.FixtureRequest) -> int:
    """How many a case brings, one of each kind at least: what always runs shall be quick."""
    return 30 if request.node.get_closest_marker("matrix") else 12


def _for_tests(it: Operated) -> Operated:
    settings = {
        "MAILROOM_HTTP": "127.0.0.1:0",
        "MAILROOM_CLOCK_OFFSET_FILE": str(it.folder / "offset"),
        # Leases are waited for by no clock that a test could move, nor are these. Where a machine
        # is so busy that a process stands still for seconds, it loses its lease, and rightly.
        "MAILROOM_FETCHER_LEASE_SECONDS": f"{PATIENCE / 30:g}",
        "MAILROOM_SENDER_LEASE_SECONDS": f"{PATIENCE / 30:g}",
        "MAILROOM_SENDER_POLL_SECONDS": "0.25",
        "MAILROOM_FETCHER_ANSWER_SECONDS": f"{PATIENCE / 12:g}",
        "MAILROOM_SENDER_ANSWER_SECONDS": f"{PATIENCE / 12:g}",
        "MAILROOM_SENDER_DATA_SECONDS": f"{PATIENCE / 12:g}",
    }
    return Operated(it.servers, it.folder, {**it.environment, **settings})


@contextmanager
def _another_vhost(servers: local.Servers) -> Iterator[Broker]:
    """As the worker's own, which other tests empty; two runs may share their servers."""
    broker = vhost_made(servers, f"mailroom-firm-{uuid4().hex[:8]}", installed_services())
    yield broker
    local.rabbitmqctl(servers, "delete_vhost", broker.vhost)


@pytest.fixture(scope="module")
def running(firm: Firm) -> Iterator[Firm]:
    """The firm of all cases; each brings mails and customers of its own."""
    yield firm
    firm.kill_all()
