from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from mailroom import directory
from mailroom.directory import Account, Folder, Mailbox, Server
from mailroom_directory import queries, store
from mailroom_directory.logins import SealedLogin
from mailroom_directory.server_urls import Login
from tests.directory.conftest import As

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
VIEWS = {
    "accounts_v1": {"fetcher", "router", "ticketing", "sender"},
    "credentials_v1": {"fetcher", "sender"},
    "mailboxes_v1": {"router", "ticketing"},
    "publishers_v1": {"sender"},
    "revision_v1": {"router", "ticketing"},
}
UNSEAL = VIEWS["credentials_v1"]

READ_OR_WRITE = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
WRITE = READ_OR_WRITE.removeprefix("SELECT, ")
EVERY_PRIVILEGE = """
    SELECT c.relname, r.rolname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'directory'
    CROSS JOIN pg_roles r
    WHERE c.relkind IN ('r', 'v', 'p') AND r.rolname LIKE 'mailroom\\_%'
      AND r.rolname <> 'mailroom_directory' AND has_table_privilege(r.oid, c.oid, :privileges)
"""


async def stored(as_: As) -> tuple[UUID, UUID]:
    """A mailbox and an account with all that an account may have."""
    async with as_("directory") as tx:
        mailbox = await queries.add(
            tx, "mailbox", {"name": "service", "kind": "central", "owner_id": None}, NOON
        )
        await queries.add_addresses(tx, mailbox, ["Service@example.com", "info@example.com"])
        values = {
            "name": "Service",
            "address": "service@example.com",
            "display_name": "Service",
            "mailbox_id": mailbox,
            "sent": "append",
            "sent_folder": None,
            "unknown": "resend",
            "start": NOON,
            "interval_seconds": 5,
            "calendar": None,
            "timezone": "UTC",
            "idle": True,
            "enabled": True,
        }
        account = await queries.add(tx, "account", values, NOON)
        servers = [
            SealedLogin(Login("imap", "localhost", 993, "implicit", "anna"), b"sealed imap"),
            SealedLogin(Login("smtp", "localhost", 587, "starttls", "anna"), b"sealed smtp"),
        ]
        await queries.set_servers(tx, account, servers)
        await queries.set_folders(tx, account, [Folder("Projects", "other")])
    return mailbox, account


async def stored_with_a_publisher(as_: As) -> UUID:
    """As `stored`, and `erp`, which may send with the account."""
    _, account = await stored(as_)
    async with as_("directory") as tx:
        erp = await queries.add(tx, "publisher", {"name": "erp"}, NOON)
        await queries.link(
            tx, store.publisher_accounts, {"publisher_id": erp}, "account_id", [account]
        )
    return account


async def test_others_read_accounts_and_mailboxes_as_the_directory_stored_them(as_: As) -> None:
    mailbox, account = await stored(as_)
    async with as_("fetcher") as tx:
        read = await directory.accounts_with_passwords(tx)
        assert await directory.account_with_passwords(tx, account) == read[0]
        assert await directory.account_with_passwords(tx, uuid4()) is None
    assert read == [
        Account(
            id=account,
            name="Service",
            address="service@example.com",
            display_name="Service",
            mailbox=mailbox,
            imap=Server("localhost", 993, "implicit", "anna", b"sealed imap"),
            smtp=Server("localhost", 587, "starttls", "anna", b"sealed smtp"),
            folders=(Folder("Projects", "other"),),
            sent="append",
            sent_folder=None,
            unknown="resend",
            start=NOON,
            interval=5,
            calendar=None,
            timezone="UTC",
            idle=True,
            enabled=True,
        )
    ]
    async with as_("router") as tx:
        without = await directory.accounts(tx)
        assert without == [
            replace(
                read[0],
                imap=Server("localhost", 993, "implicit", "anna", b""),
                smtp=Server("localhost", 587, "starttls", "anna", b""),
            )
        ]
        assert await directory.account(tx, "service") == without[0]
        assert await directory.account(tx, str(account).upper()) == without[0]
        assert await directory.account(tx, "nobody") is None
        assert await directory.mailboxes(tx) == [
            Mailbox(
                mailbox, "service", "central", ("info@example.com", "service@example.com"), None
            )
        ]


@pytest.mark.parametrize("service", sorted(UNSEAL))
async def test_a_role_that_unseals_gets_sealed_passwords(as_: As, service: str) -> None:
    await stored(as_)
    async with as_(service) as tx:
        (account,) = await directory.accounts_with_passwords(tx)
    assert account.imap is not None
    assert account.imap.sealed_password == b"sealed imap"


@pytest.mark.parametrize("service", sorted(VIEWS["accounts_v1"] - UNSEAL))
async def test_any_other_role_is_refused_them(as_: As, service: str) -> None:
    await stored(as_)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with as_(service) as tx:
            await directory.accounts_with_passwords(tx)


@pytest.mark.parametrize(
    ("relation", "reader"), [("servers", "directory"), ("credentials_v1", "fetcher")]
)
async def test_the_router_is_refused_sealed_passwords(as_: As, relation: str, reader: str) -> None:
    query = select(text("1")).select_from(text(f"directory.{relation}"))
    async with as_(reader) as tx:
        await tx.execute(query)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with as_("router") as tx:
            await tx.execute(query)


async def test_each_view_is_readable_by_exactly_who_needs_it_and_nothing_else_is(as_: As) -> None:
    async with as_("directory") as tx:
        granted = {
            (row.relname, row.rolname)
            for row in await tx.execute(text(EVERY_PRIVILEGE), {"privileges": READ_OR_WRITE})
        }
        written = await tx.execute(text(EVERY_PRIVILEGE), {"privileges": WRITE})
        assert written.all() == []
    assert granted == {
        (view, f"mailroom_{service}") for view, services in VIEWS.items() for service in services
    }


async def test_a_publisher_may_send_with_the_accounts_the_directory_lists_for_it(as_: As) -> None:
    account = await stored_with_a_publisher(as_)
    async with as_("sender") as tx:
        assert await directory.may_send(tx, "erp", account)
        assert not await directory.may_send(tx, "erp", uuid4())
        assert not await directory.may_send(tx, "ERP", account)
        assert await directory.may_send(tx, "ticketing", account)
