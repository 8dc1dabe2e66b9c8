"""Where things are measured: an installation on private servers that sync what they confirm."""

import asyncio
import imaplib
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from bench.processor import Pids
from deploy import local
from deploy.local import guarded, operating
from deploy.local.installation import Place, install
from deploy.local.mail_programs import Person
from deploy.local.operating import Operated, command
from deploy.local.ports import free_ports
from mailroom.service import Service, named

PUBLISHER = "erp"


class NotInTime(Exception):
    """Something did not come to its end."""


@dataclass(frozen=True)
class Stage:
    """An installation, its servers and people."""

    it: Operated

    @property
    def database(self) -> str:
        """As PostgreSQL's superuser."""
        return self.it.servers.postgresql.dsn.rpartition("/")[0] + "/mailroom"

    def person(self) -> Person:
        """Somebody new with a mailbox on the server."""
        name = f"bench-{uuid4().hex[:8]}"
        person = Person(name, f"{name}@example.com", "secret")
        local.add_mail_user(self.it.servers, person.address, person.password)
        return person

    def add_account(self, person: Person, *options: str) -> None:
        """The person's account, which feeds a mailbox of its own."""
        imap, smtp = self.it.servers.dovecot.imaps, self.it.servers.postfix.submissions
        command(self.it, "mailbox", "add", person.name, "--address", person.address)
        command(
            self.it,
            *("account", "add", person.name, "--mailbox", person.name),
            *("--address", person.address, "--interval", "60"),
            *("--imap", f"imaps://{person.address}@localhost:{imap}"),
            *("--smtp", f"smtps://{person.address}@localhost:{smtp}"),
            *("--password-stdin", *options),
            text=person.password,
        )

    def empty_queues(self) -> None:
        """What was published for services that did not run is nobody's work any more."""
        local.purge_queues(self.it.servers)

    def pids(self, *services: str) -> dict[str, Pids]:
        """The processes of services that are `serving`, and of all servers."""
        servers = self.it.servers
        of_servers: dict[str, Pids] = {
            name: partial(local.processes, servers, name) for name in sorted(local.ALL)
        }
        folders = {name: self.it.folder / f"mailroom-{name}" for name in services}
        of_services: dict[str, Pids] = {
            name: partial(guarded.server_processes, folder) for name, folder in folders.items()
        }
        return of_services | of_servers


@contextmanager
def staged(*more: Service[Any]) -> Iterator[Stage]:
    """Servers and an installation of all services and `more`, none of them running."""
    folder = Path(tempfile.mkdtemp(prefix="mailroom-bench-"))
    try:
        with local.running(folder) as servers:
            place = Place(servers.folder)
            environment = install(servers, place, [*named(["all"]), *more], publishers=[PUBLISHER])
            it = operating.with_keys(servers, place, environment)
            command(it, "migrate")
            yield Stage(it)
    finally:
        local.remove(folder)


@contextmanager
def serving(stage: Stage, *names: str, **environment: str) -> Iterator[None]:
    """Services, each in a process of its own."""
    with ExitStack() as running:
        for name, port in zip(names, free_ports(len(names)), strict=True):
            own = {**stage.it.environment, **environment, "MAILROOM_HTTP": f"127.0.0.1:{port}"}
            running.enter_context(operating.served(replace(stage.it, environment=own), name))
        yield


def fill(stage: Stage, person: Person, mails: Sequence[bytes]) -> None:
    """Put mails into the person's inbox on the server."""
    context = ssl.create_default_context(cafile=stage.it.servers.ca_file)
    with imaplib.IMAP4_SSL(
        "localhost", stage.it.servers.dovecot.imaps, ssl_context=context
    ) as imap:
        imap.login(person.address, person.password)
        for mail in mails:
            imap.append("INBOX", "", "", mail)


async def reached(
    connection: asyncpg.Connection, query: str, wanted: int, *values: object, within: float = 300
) -> None:
    """Wait until a query's number is there. Raises NotInTime."""
    seen = None
    try:
        async with asyncio.timeout(within):
            while (seen := await connection.fetchval(query, *values)) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise NotInTime(f"{query} is {seen}, not {wanted}, after {within:g} s") from None


async def multiply(connection: asyncpg.Connection, name: str, count: int, *, enabled: bool) -> None:
    """More accounts with the login of this one."""
    ids = [uuid4() for _ in range(count)]
    await connection.execute(
        "INSERT INTO directory.accounts SELECT (jsonb_populate_record(a, jsonb_build_object("
        " 'id', new, 'name', a.name || '-' || new, 'enabled', $3::boolean))).*"
        " FROM directory.accounts AS a, unnest($1::uuid[]) AS new WHERE a.name = $2",
        ids,
        name,
        enabled,
    )
    await connection.execute(
        "INSERT INTO directory.servers SELECT (jsonb_populate_record(s, jsonb_build_object("
        " 'account_id', new))).*"
        " FROM directory.servers AS s JOIN directory.accounts AS a ON a.id = s.account_id,"
        " unnest($1::uuid[]) AS new WHERE a.name = $2",
        ids,
        name,
    )
