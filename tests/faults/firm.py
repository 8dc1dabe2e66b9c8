"""A firm with Mailroom, each service a process of its own, and the people who write to it.

Invariant: what a person would do is done as a person does it, by mail programs and by commands; the
processes end with the test run, however that ends.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from uuid import uuid4

from deploy import local
from deploy.local import guarded, mail_programs
from deploy.local.mail_programs import Person
from deploy.local.operating import Operated
from tests.faults.nursery import Nursery
from tests.installation import Database, does, service_names
from tests.waiting import until

PATIENCE = float(os.environ.get("MAILROOM_TEST_PATIENCE", "60"))
"""Seconds that anything may take on a busy machine; more where it is very busy."""


@dataclass(frozen=True)
class Process:
    """A service that runs, or has died."""

    held: ExitStack
    guard: guarded.Guarded


@dataclass
class Firm:
    """Two accounts, each with its mailbox, that feed one ticket queue."""

    it: Operated
    database: Database
    service: Person
    """The queue's account: acknowledgements leave from here."""
    sales: Person
    mail: tuple[str, str]
    """The accounts' servers, IMAP and SMTP: URLs with `{user}` in them."""
    nursery: Nursery | None = None
    """Where its services are born; without one, each is started by its command."""
    processes: dict[str, Process] = field(default_factory=dict)

    def does(self, *words: str, text: str | None = None) -> str:
        """What `mailroom WORDS` prints."""
        return does(self.it, *words, text=text)

    def set_up(self) -> None:
        """Accounts, their mailboxes, and the ticket queue."""
        imap, smtp = self.mail
        for person in (self.service, self.sales):
            local.add_mail_user(self.it.servers, person.address, person.password)
            self.does("mailbox", "add", person.name, "--address", person.address)
            self.does(
                *("account", "add", person.name, "--mailbox", person.name, "--interval", "5"),
                *("--address", person.address),
                *("--imap", imap.format(user=person.address)),
                *("--smtp", smtp.format(user=person.address)),
                "--password-stdin",
                text=person.password,
            )
        feeds = ("--mailbox", self.service.name, "--mailbox", self.sales.name)
        self.does("ticket-queue", "add", "Service", *feeds, "--account", self.service.name)

    async def asks(self, *words: str) -> str:
        """The same, where an event loop runs."""
        return await asyncio.to_thread(self.does, *words)

    def start(
        self, name: str, crashpoint: str = "", replica: int = 1, number: Signals = SIGKILL
    ) -> None:
        """Start a service, to be killed at the crashpoint if one is named, or frozen (SIGSTOP).

        A second replica has a name of its own in `processes`: "router-2".
        """
        process = name if replica == 1 else f"{name}-{replica}"
        self.end(process)
        armed = {"MAILROOM_CRASHPOINT": crashpoint, "MAILROOM_CRASHPOINT_SIGNAL": number.name}
        folder, held = self.it.folder / process, ExitStack()
        held.enter_context(guarded.lifelines([folder]))
        environment = {**os.environ, **self.it.environment, **armed}
        if self.nursery is None:
            command = [sys.executable, "-m", "mailroom", "serve", name]
            program = guarded.Program(command, environment, end_signal=SIGTERM)
            guard = guarded.launch(folder, program)
        else:
            guard = guarded.Guarded(folder, self.nursery.bear(folder, name, environment))
        self.processes[process] = Process(held, guard)

    def start_missing(self) -> None:
        """Start every service that does not run."""
        for name in service_names():
            if name not in self.processes or self.processes[name].guard.ended:
                self.start(name)

    def end(self, name: str, how: str = "stop") -> None:
        """Stop a service in order, or kill it; nothing happens to one that does not run."""
        if name in self.processes:
            process = self.processes.pop(name)
            guarded.tell(process.guard.folder, how)
            guarded.wait_until_ended(process.guard.folder)
            process.held.close()

    @contextmanager
    def second(self, *names: str) -> Iterator[None]:
        """A second replica of each of these services; behind the block only the first is left.

        The first may have been frozen, and is thawed then.
        """
        try:
            for name in names:
                self.start(name, replica=2)
            yield
        finally:
            for name in names:
                if name in self.processes:
                    self.thaw(name)
                self.end(f"{name}-2")

    def kill_all(self) -> None:
        """End what runs, at once."""
        for name in list(self.processes):
            self.end(name, "kill")

    def freeze(self, name: str) -> None:
        """Stop a process as it stands (SIGSTOP): it does nothing, and its connections stay."""
        folder = self.processes[name].guard.folder
        guarded.tell(folder, "freeze")
        guarded.wait(folder, "frozen", lambda: self._is_frozen(name))

    async def is_frozen(self, name: str) -> None:
        """Wait until a service has come to the crashpoint at which it freezes."""
        await until(lambda: self._is_frozen(name), within=PATIENCE, every=0.1)

    def _is_frozen(self, name: str) -> bool:
        states = guarded.server_processes(self.processes[name].guard.folder).values()
        return set(states) == {"T"}

    def thaw(self, name: str) -> None:
        """Let a frozen process go on as if nothing had been."""
        guarded.tell(self.processes[name].guard.folder, "thaw")

    async def is_killed(self, name: str) -> None:
        """Wait until a service has died of SIGKILL."""
        process = self.processes[name].guard
        await until(lambda: process.ended, within=PATIENCE)
        assert process.exit_code == 128 + SIGKILL, (process.folder / guarded.LOG).read_text()

    @property
    def now(self) -> datetime:
        """By the clock of the services."""
        return datetime.now(UTC) + timedelta(seconds=float(self._offset.read_text()))

    def pass_time(self, by: timedelta) -> None:
        """Move the clock of all services, also of those that start later."""
        offset = float(self._offset.read_text()) + by.total_seconds()
        # Never empty, not for a moment: who read it then would see the clock fall back.
        new = self._offset.with_suffix(".new")
        new.write_text(str(offset))
        new.replace(self._offset)

    @property
    def _offset(self) -> Path:
        return Path(self.it.environment["MAILROOM_CLOCK_OFFSET_FILE"])

    def customer(self) -> Person:
        """Somebody new who can write and receive mail."""
        person = Person("Customer", f"{uuid4().hex[:12]}@customer.test", "secret")
        local.add_mail_user(self.it.servers, person.address, person.password)
        return person

    async def gets(self, *messages: EmailMessage) -> None:
        """Customers' mails come by SMTP, and lie in every inbox that they are written to."""
        to = [address.addr_spec for each in messages for address in each["To"].addresses]
        wanted = {
            person: len(self.uids(person)) + to.count(person.address)
            for person in (self.service, self.sales)
        }
        for message in messages:
            mail_programs.post(self.it.servers, message)
        await until(
            lambda: all(len(self.uids(person)) == there for person, there in wanted.items()),
            within=PATIENCE,
            every=0.1,
        )

    def uids(self, person: Person) -> list[int]:
        """Of what lies in a person's inbox."""
        return mail_programs.uids(self.it.servers, person)

    def folder(self, person: Person, name: str = "INBOX") -> list[EmailMessage]:
        """What a person sees in a mail program."""
        return mail_programs.folder(self.it.servers, person, name)

    def headers(self, person: Person, name: str = "INBOX") -> list[EmailMessage]:
        """Of what lies there, what a mail program lists."""
        return mail_programs.headers(self.it.servers, person, name)


@contextmanager
def working(
    it: Operated, database: Database, mail: tuple[str, str], nursery: Nursery | None = None
) -> Iterator[Firm]:
    """A firm to start services of; those that still run at the end are killed.

    `mail` are the accounts' servers, IMAP and SMTP: URLs with `{user}` in them. It is not set up:
    nothing may be there yet, not even the database.
    """
    service, sales = (
        Person(name, f"{name}-{uuid4().hex[:8]}@example.com", "secret")
        for name in ("service", "sales")
    )
    firm = Firm(it, database, service, sales, mail, nursery)
    Path(it.environment["MAILROOM_CLOCK_OFFSET_FILE"]).write_text("0")
    try:
        yield firm
    finally:
        firm.kill_all()
