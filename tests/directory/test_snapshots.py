"""Whoever keeps what the directory's views showed sees each change at once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from mailroom import directory
from tests.directory.conftest import As
from tests.directory.test_views import stored_with_a_publisher

CHANGES = {
    "an account": "UPDATE directory.accounts SET display_name = 'Other'",
    "a server": "UPDATE directory.servers SET host = '127.0.0.1' WHERE protocol = 'imap'",
    "a folder that is added": "INSERT INTO directory.folders SELECT id, 'New', 'other'"
    " FROM directory.accounts",
    "a folder that is removed": "DELETE FROM directory.folders",
    "a mailbox": "UPDATE directory.mailboxes SET name = 'Other'",
    "an address": "UPDATE directory.mailbox_addresses SET address = 'other@example.com'"
    " WHERE address LIKE 'info@%'",
    "a publisher": "UPDATE directory.publishers SET name = 'other'",
    "a publisher's right": "DELETE FROM directory.publisher_accounts",
}


async def revision(as_: As) -> Any:
    async with as_("router") as tx:
        return (await directory.snapshot(tx)).revision


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_whatever_changes_what_a_view_shows_is_another_revision(as_: As, change: str) -> None:
    await stored_with_a_publisher(as_)
    before = await revision(as_)
    async with as_("directory") as tx:
        assert (await tx.execute(text(change))).rowcount > 0
        assert await revision(as_) == before
    assert await revision(as_) != before


async def test_how_an_account_fares_is_no_other_revision(as_: As) -> None:
    """It is told all the time, and no view shows it."""
    await stored_with_a_publisher(as_)
    before = await revision(as_)
    async with as_("directory") as tx:
        await tx.execute(
            text(
                "INSERT INTO directory.account_states"
                " SELECT id, 'ok', '', now(), now(), 1 FROM directory.accounts"
            )
        )
    assert await revision(as_) == before


async def test_what_was_read_is_kept_until_it_changes_and_then_is_as_it_stands(as_: As) -> None:
    await stored_with_a_publisher(as_)
    async with as_("router") as tx:
        first = await directory.snapshot(tx)
        assert await directory.snapshot(tx) is first
        assert [*first.accounts] == await directory.accounts(tx)
        assert [*first.mailboxes] == await directory.mailboxes(tx)
    assert first.addresses == {"service@example.com", "info@example.com"}
    async with as_("directory") as tx:
        await tx.execute(text("DELETE FROM directory.mailbox_addresses WHERE address LIKE 'info%'"))
    async with as_("ticketing") as tx:
        changed = await directory.snapshot(tx)
    assert changed.addresses == {"service@example.com"}
    assert first.addresses == {"service@example.com", "info@example.com"}


async def test_a_transaction_that_changes_much_is_one_revision_and_costs_one_row(as_: As) -> None:
    await stored_with_a_publisher(as_)
    many = "INSERT INTO directory.folders SELECT id, 'Folder ' || n, 'other'"
    async with as_("directory") as tx:
        await tx.execute(text(f"{many} FROM directory.accounts, generate_series(1, 500) AS n"))
        await tx.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        first = (await tx.execute(text("SELECT id FROM directory.revision"))).scalars().all()
        await tx.execute(text("UPDATE directory.accounts SET display_name = 'Other'"))
        then = (await tx.execute(text("SELECT id FROM directory.revision"))).scalars().all()
    assert first == then
    assert len(first) == 1


async def test_two_that_change_the_directory_at_once_do_not_wait_for_each_other(as_: As) -> None:
    await stored_with_a_publisher(as_)
    async with as_("directory") as one, as_("directory") as other, asyncio.timeout(10):
        await one.execute(text("UPDATE directory.accounts SET display_name = 'Other'"))
        await other.execute(text("UPDATE directory.mailboxes SET name = 'Other'"))
        await one.execute(text("UPDATE directory.publishers SET name = 'other'"))
        before = await revision(as_)
        await one.commit()
        between = await revision(as_)
        await other.commit()
    assert len({before, between, await revision(as_)}) == 3
