"""An office with accounts at the real Dovecot: what the fetcher's tests set up and look at."""

import asyncio
import imaplib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from nacl.public import PublicKey
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from deploy import local
from mailroom import clock
from mailroom.contracts import AccountFetch, AccountObserved, DirectoryChanged, MailReceived
from mailroom.directory import Account, Folder, accounts_with_passwords, seal
from mailroom.messaging.envelope import Received
from mailroom.objects import open_store
from mailroom.service import Resources
from mailroom.settings import CommonSettings
from mailroom_directory import store as directory
from mailroom_fetcher import service
from mailroom_fetcher.accounts import attend_accounts
from mailroom_fetcher.service import SERVICE
from mailroom_fetcher.settings import FetcherSettings
from mailroom_fetcher.store import accounts as leased
from mailroom_fetcher.store import arrivals, folders
from tests.installation import Database
from tests.local.mail import PASSWORD, logged_in
from tests.waiting import until

START = datetime(2020, 1, 1, tzinfo=UTC)
LONG_AGO = START - timedelta(days=1)


@dataclass(frozen=True)
class Office:
    """One installation: its servers, its database, its keys, and the engines of two roles."""

    servers: local.Servers
    database: Database
    settings: FetcherSettings
    seal_key: PublicKey
    objects: Path
    engine: AsyncEngine
    """The fetcher's role."""
    people: AsyncEngine
    """The directory's role."""

    def resources(self, replica: str = "one", **changes: Any) -> Resources[FetcherSettings]:
        """What a replica runs with; `changes` are settings."""
        return Resources(
            common=CommonSettings(objects=str(self.objects), tls_ca_file=self.servers.ca_file),
            settings=self.settings.model_copy(update=changes),
            engine=self.engine,
            objects=open_store(str(self.objects)),
            messaging=SERVICE.messaging,
            replica=replica,
        )


@asynccontextmanager
async def replica(office: Office, name: str = "one", **changes: Any) -> AsyncIterator[None]:
    """A running fetcher; it must not fail by itself."""
    task = asyncio.create_task(attend_accounts(office.resources(name, **changes)))
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def add_account(office: Office, name: str, **changes: Any) -> Account:
    """An account in the directory, with a login at Dovecot; `changes` are columns.

    `port`, `tls`, `password` and `folders` may be changed, too.
    """
    address = f"{name}-{uuid4().hex[:8]}@office.test"
    local.add_mail_user(office.servers, address, PASSWORD)
    account = uuid4()
    server = {
        "host": "localhost",
        "port": changes.pop("port", office.servers.dovecot.imaps),
        "tls": changes.pop("tls", "implicit"),
    }
    password = changes.pop("password", PASSWORD)
    chosen: Sequence[Folder] = changes.pop("folders", ())
    async with office.people.begin() as tx:
        mailbox = uuid4()
        row = {"id": mailbox, "name": name, "kind": "central", "created_at": START}
        await tx.execute(insert(directory.mailboxes).values(row))
        usual = {
            "id": account,
            "name": name,
            "address": address,
            "display_name": "",
            "mailbox_id": mailbox,
            "sent": "append",
            "unknown": "resend",
            "start": START,
            "interval_seconds": 5,
            "timezone": "UTC",
            "idle": False,
            "enabled": True,
            "created_at": START,
        }
        await tx.execute(insert(directory.accounts).values(usual | changes))
        login = {"account_id": account, "protocol": "imap", "username": address}
        sealed = seal("localhost", address, password, office.seal_key)
        login |= {"sealed_password": sealed}
        await tx.execute(insert(directory.servers).values(login | server))
        for folder in chosen:
            row = {"account_id": account, "name": folder.name, "role": folder.role}
            await tx.execute(insert(directory.folders).values(row))
    return await account_now(office, account)


async def account_now(office: Office, account: UUID) -> Account:
    """The account as the fetcher reads it."""
    async with office.engine.begin() as tx:
        return next(one for one in await accounts_with_passwords(tx) if one.id == account)


async def change_account(office: Office, account: Account, **columns: Any) -> None:
    """Change columns of the account; `password` and `port` are its server's. Tells the fetcher."""
    password, port = columns.pop("password", None), columns.pop("port", None)
    async with office.people.begin() as tx:
        if columns:
            await tx.execute(
                update(directory.accounts)
                .where(directory.accounts.c.id == account.id)
                .values(columns)
            )
        if password:
            sealed = seal("localhost", account.address, password, office.seal_key)
            await tx.execute(
                update(directory.servers)
                .where(directory.servers.c.account_id == account.id)
                .values(sealed_password=sealed)
            )
        if port:
            await tx.execute(
                update(directory.servers)
                .where(directory.servers.c.account_id == account.id)
                .values(port=port)
            )
    await tell_directory_changed(office)


async def fetch_now(office: Office, account: Account) -> None:
    """As the handler of `account.fetch` does."""
    command = AccountFetch(account=account.id)
    event = Received("event", command, "directory", "correlation", clock.now())
    async with office.engine.begin() as tx:
        assert await service.fetch_now(tx, [event], office.resources()) == ()


async def tell_directory_changed(office: Office) -> None:
    """As the handler of `directory.changed` does."""
    fact = DirectoryChanged(kind="account", id=uuid4())
    event = Received("event", fact, "directory", "correlation", clock.now())
    async with office.engine.begin() as tx:
        assert await service.read_again(tx, [event], office.resources()) == ()


async def remove_account(office: Office, account: Account) -> None:
    """Remove the account from the directory, without telling anybody."""
    async with office.people.begin() as tx:
        await tx.execute(delete(directory.accounts).where(directory.accounts.c.id == account.id))


@contextmanager
def other_client(office: Office, account: Account) -> Iterator[imaplib.IMAP4_SSL]:
    """Another mail program, logged in to the account."""
    with logged_in(office.servers, account.address) as client:
        yield client


def a_mail(subject: str, size: int = 0) -> bytes:
    """A mail as it lies on the server, padded to about `size` bytes."""
    head = f"From: anna@customer.test\r\nSubject: {subject}\r\n\r\nPlease come.\r\n".encode()
    line = b"x" * 76 + b"\r\n"
    return head + line * (max(size - len(head), 0) // len(line))


def put_mail(
    client: imaplib.IMAP4_SSL,
    *mails: bytes,
    folder: str = "INBOX",
    flags: str = "",
    when: datetime | None = None,
) -> None:
    """Add mails to a folder, as another client or a delivery does."""
    for mail in mails:
        date = imaplib.Time2Internaldate(when) if when else ""
        status, answer = client.append(folder, flags, date, mail)
        assert status == "OK", answer


def flags_of(client: imaplib.IMAP4_SSL, folder: str = "INBOX") -> list[bytes]:
    """UID and flags of each mail, as the server tells them."""
    client.select(folder, readonly=True)
    answer = client.uid("FETCH", "1:*", "(FLAGS)")[1]
    return sorted(line for line in answer if isinstance(line, bytes))


async def events(office: Office, event_type: str) -> list[Any]:
    """The outbox's rows of this type, in order."""
    outbox = SERVICE.messaging.outbox
    async with office.engine.begin() as tx:
        rows = await tx.execute(
            select(outbox).where(outbox.c.type == event_type).order_by(outbox.c.id)
        )
        return list(rows.mappings())


async def received(office: Office, account: Account | None = None) -> list[MailReceived]:
    """Every `mail.received` that waits in the outbox, in order."""
    found = [
        MailReceived.model_validate_json(row["body"])
        for row in await events(office, "mail.received")
    ]
    return [event for event in found if account is None or event.account == account.id]


async def observed(office: Office, account: Account) -> list[AccountObserved]:
    """Every `account.observed` of the account, in order."""
    rows = await events(office, "account.observed")
    found = [AccountObserved.model_validate_json(row["body"]) for row in rows]
    return [event for event in found if event.account == account.id]


async def ledger(office: Office, account: Account | None = None) -> list[Any]:
    """The ledger's rows with their folders, by folder and UID."""
    found = (
        select(arrivals, folders.c.account, folders.c.name)
        .join(folders, arrivals.c.folder == folders.c.id)
        .order_by(folders.c.name, arrivals.c.uidvalidity, arrivals.c.uid)
    )
    async with office.engine.begin() as tx:
        rows = (await tx.execute(found)).mappings().all()
    return [row for row in rows if account is None or row["account"] == account.id]


async def brought(
    office: Office, count: int, account: Account | None = None, within: float = 15.0
) -> list[MailReceived]:
    """Wait until so many mails are in the outbox."""

    outbox = SERVICE.messaging.outbox
    counted = select(func.count()).where(outbox.c.type == "mail.received")

    async def there() -> list[MailReceived]:
        async with office.engine.begin() as tx:
            total = (await tx.execute(counted)).scalar_one()
        assert total >= count, f"{total} of {count} mails"
        found = await received(office, account)
        assert len(found) >= count, f"{len(found)} of {count} mails of the account"
        return found

    return await until(there, within)


def multiply(client: imaplib.IMAP4_SSL, times: int, folder: str = "INBOX") -> int:
    """Double the number of mails in a folder so often; how many there are then."""
    client.select(folder)
    for _ in range(times):
        status, answer = client.copy("1:*", folder)
        assert status == "OK", answer
        client.noop()
    return int(client.select(folder, readonly=True)[1][0] or 0)


@asynccontextmanager
async def process(
    office: Office, name: str, crashpoint: str = "", **settings: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A replica in a process of its own; killed at the end, if it has not ended."""
    environment = {
        "MAILROOM_OBJECTS": str(office.objects),
        "MAILROOM_TLS_CA_FILE": str(office.servers.ca_file),
        "MAILROOM_FETCHER_DATABASE_URL": str(office.settings.database_url),
        "MAILROOM_FETCHER_BROKER_URL": str(office.settings.broker_url),
        "MAILROOM_FETCHER_UNSEAL_KEYS_FILE": str(office.settings.unseal_keys_file),
        "MAILROOM_CRASHPOINT": crashpoint,
    }
    environment |= {f"MAILROOM_FETCHER_{key.upper()}": str(at) for key, at in settings.items()}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fetcher.alone",
        name,
        env=os.environ | environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def holders(office: Office) -> dict[UUID, str | None]:
    """Who holds which account."""
    async with office.engine.begin() as tx:
        rows = await tx.execute(select(leased.c.account, leased.c.holder))
        return {row.account: row.holder for row in rows}
