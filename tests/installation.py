"""One installation on the shared servers: a database, a vhost, and everybody's passwords.

Invariant: every service has a role and a broker user of its own, as in a real installation, so that
a missing grant shows in a test.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import aio_pika
from click.testing import CliRunner

from deploy.local import PostgreSQL, RabbitMQ, Servers, import_definitions, role_of
from deploy.local.installation import Place, environment
from deploy.local.operating import Operated, with_keys
from tests.waiting import until

OWNER = "mailroom"
PUBLISHERS = ("erp",)
"""Foreign users of the broker, who may publish what anyone may."""


def service_names() -> list[str]:
    """All services, without importing one."""
    return [entry.name for entry in _entries()]


def installed_services() -> list[Any]:
    """Every `Service`; those that MAILROOM_TEST_SERVICES names (a,b,c), where it is set."""
    chosen = os.environ.get("MAILROOM_TEST_SERVICES", ",".join(service_names())).split(",")
    return [_load(entry) for entry in _entries() if entry.name in chosen]


@cache
def _entries() -> list[EntryPoint]:
    """Sought once: the metadata of all packages are read for it."""
    return sorted(entry_points(group="mailroom.services"), key=lambda entry: entry.name)


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as broken:
        broken.add_note("to test the others meanwhile: MAILROOM_TEST_SERVICES=their,names")
        raise


def queues_of(service: Any) -> list[str]:
    """The queues of a `Service`, the one for dead letters too."""
    # Imported here: tests of other things shall not fail, or wait, for it.
    from mailroom.messaging import topology  # noqa: PLC0415

    own = [topology.queue_name(service.name, each.contract) for each in service.subscriptions]
    return [*own, topology.dead_queue(service.name)]


def all_queues() -> list[str]:
    """The queues of all services."""
    return [queue for service in installed_services() for queue in queues_of(service)]


def password_of(user: str) -> str:
    """Of a role or broker user that lives for one test run."""
    return f"{user}-secret"


@dataclass(frozen=True)
class Database:
    """A migrated database that one test has for itself."""

    server: PostgreSQL
    name: str

    def url(self, service: str) -> str:
        """As the service's own role; `mailroom` is the owner's."""
        role = OWNER if service == OWNER else role_of(service)
        password = password_of(service)
        return f"postgresql://{role}:{password}@{self.server.host}:{self.server.port}/{self.name}"

    @property
    def superuser_url(self) -> str:
        """As PostgreSQL's superuser, to look at what nobody else may."""
        return self.server.dsn.rpartition("/")[0] + f"/{self.name}"


@dataclass(frozen=True)
class Broker:
    """A vhost with Mailroom's exchanges and queues, empty when a test gets it."""

    server: RabbitMQ
    vhost: str

    def url(self, user: str) -> str:
        """As a service, or another user of the vhost."""
        return (
            f"amqp://{user}:{password_of(user)}@{self.server.host}:{self.server.port}/{self.vhost}"
        )

    @property
    def admin_url(self) -> str:
        """As the administrator, who may everything."""
        return f"{self.server.url}{self.vhost}"


def passwords() -> dict[str, str]:
    """Everybody's."""
    return {name: password_of(name) for name in (OWNER, *service_names(), *PUBLISHERS)}


def installed(servers: Servers, database: Database, broker: Broker, folder: Path) -> Operated:
    """Everything but the running services: what `mailroom` needs is in its environment."""
    place = Place(folder, database.name, broker.vhost)
    made = environment(servers, place, passwords(), PUBLISHERS)
    return with_keys(servers, place, made, run=does)


def does(it: Operated, *words: str, text: str | None = None) -> str:
    """What `mailroom WORDS` prints; not in a process of its own, which takes a second."""
    # Imported here: tests of other things shall not fail, or wait, for it.
    from mailroom.cli import mailroom  # noqa: PLC0415

    done = CliRunner(env=it.environment).invoke(mailroom, words, input=text)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.stdout


def vhost_made(
    servers: Servers, name: str, services: Sequence[Any], publishers: Sequence[str] = PUBLISHERS
) -> Broker:
    """A vhost with what `mailroom migrate` declares, and a user for each service."""
    # Imported here: tests of other things shall not fail, or wait, for it.
    from mailroom.messaging import topology  # noqa: PLC0415

    broker = Broker(servers.rabbitmq, name)
    users = (OWNER, *(service.name for service in services), *publishers)
    secrets = {user: password_of(user) for user in users}
    definitions = topology.definitions(services, name, secrets, publishers)
    admin = {"vhost": name, "user": servers.rabbitmq.user}
    definitions["permissions"].append(admin | dict.fromkeys(("configure", "write", "read"), ".*"))
    import_definitions(servers, definitions)

    async def declare() -> None:
        async with await aio_pika.connect(broker.url(OWNER), timeout=10) as connection:
            await topology.declare(connection, services)

    in_a_thread(declare())
    return broker


def in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end; the test's event loop, which may be there already, is left alone."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def emptied(broker: Broker, names: Iterable[str]) -> None:
    """Wait until nobody consumes from these queues, and empty them."""
    async with await aio_pika.connect(broker.admin_url, timeout=10) as connection:
        channel = await connection.channel()
        for name in names:

            async def is_left_alone(name: str = name) -> bool:
                queue = await channel.get_queue(name)
                there = queue.declaration_result
                if there.message_count:
                    await queue.purge()
                # What a consumer held comes back when it has ended, perhaps a moment later.
                return there.consumer_count == there.message_count == 0

            await until(is_left_alone)
