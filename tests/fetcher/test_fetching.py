"""The fetcher brings every mail of an account in, once, and changes nothing on the server."""

import signal
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from mailroom import imap, objects
from mailroom.directory import Account, Folder
from mailroom_fetcher import store
from mailroom_fetcher.folders import folders_of
from mailroom_fetcher.ledger import Place, Stored, arrivals
from mailroom_fetcher.store import folders
from tests.fetcher.office import (
    LONG_AGO,
    START,
    Office,
    a_mail,
    add_account,
    brought,
    fetch_now,
    flags_of,
    holders,
    ledger,
    multiply,
    observed,
    other_client,
    process,
    put_mail,
    received,
    replica,
)
from tests.waiting import until


async def test_a_mail_in_the_inbox_ends_in_object_store_ledger_and_outbox(office: Office) -> None:
    account = await add_account(office, "service")
    mail = a_mail("My printer is on fire")
    with other_client(office, account) as client:
        put_mail(client, mail)
    async with replica(office):
        (event,) = await brought(office, 1)
    assert await objects.get(office.resources().objects, event.raw.sha256) == mail
    (row,) = await ledger(office)
    assert (row["state"], row["sha256"], row["size"]) == ("published", event.raw.sha256, len(mail))
    assert row["id"] == event.arrival
    assert (event.account, event.folder, event.role, event.uid) == (account.id, "INBOX", "inbox", 1)
    assert not event.backfill


async def test_inbox_and_the_servers_sent_folder_are_read_by_default(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        for folder in ("INBOX", "Sent", "Drafts", "Junk", "Trash"):
            put_mail(client, a_mail(f"in {folder}"), folder=folder)
    async with replica(office):
        events = await brought(office, 2)
        await until(lambda: observed(office, account))
    assert {(event.folder, event.role) for event in events} == {
        ("INBOX", "inbox"),
        ("Sent", "sent"),
    }
    assert len(await received(office)) == 2


async def test_chosen_folders_are_read_with_their_roles_and_no_others(office: Office) -> None:
    chosen = (Folder("Junk", "junk"), Folder("Aufträge & mehr", "other"))
    account = await add_account(office, "service", folders=chosen)
    with other_client(office, account) as client:
        client.create('"Auftr&AOQ-ge &- mehr"')
        put_mail(client, a_mail("1"), folder='"Auftr&AOQ-ge &- mehr"')
        put_mail(client, a_mail("2"), folder="Junk")
        put_mail(client, a_mail("3"), folder="INBOX")
    async with replica(office):
        events = await brought(office, 2)
        await until(lambda: observed(office, account))
    assert {(event.folder, event.role) for event in events} == {
        ("Junk", "junk"),
        ("Aufträge & mehr", "other"),
    }


async def test_a_mail_that_another_client_read_first_is_not_missed(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("read"), flags="(\\Seen)")
        put_mail(client, a_mail("unread"))
        async with replica(office):
            await brought(office, 2)
            put_mail(client, a_mail("read at once"), flags="(\\Seen \\Flagged)")
            await fetch_now(office, account)
            events = await brought(office, 3)
    assert set(events[-1].flags) == {"\\Seen", "\\Flagged"}


async def test_nothing_on_the_server_changes(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
        put_mail(client, a_mail("2"), flags="(\\Seen $Label)")
        put_mail(client, a_mail("3"), flags="(\\Deleted)")
        before = flags_of(client)
        async with replica(office):
            await brought(office, 3)
            await until(lambda: observed(office, account))
        assert flags_of(client) == before
        assert client.uid("SEARCH", "UNSEEN")[1] == [b"1 3"]
        assert client.response("RECENT")[1] != [b"0"]  # EXAMINE leaves even \Recent to others


async def test_mails_older_than_the_account_are_backfill(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("old"), when=LONG_AGO)
        put_mail(client, a_mail("new"), when=START + timedelta(days=1))
    async with replica(office):
        events = await brought(office, 2)
    assert {event.uid: event.backfill for event in events} == {1: True, 2: False}


async def test_each_mail_is_brought_once_however_often_the_fetcher_starts(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(120)])
        for round_ in range(3):
            async with replica(office, f"replica {round_}"):
                await brought(office, 120 + round_)
                put_mail(client, a_mail(f"round {round_}"))
                await fetch_now(office, account)
                await brought(office, 121 + round_)
    assert len(await received(office)) == len(await ledger(office)) == 123


async def test_one_batch_is_one_transaction(office: Office) -> None:
    """Rows and events of a FETCH of 50 bodies commit together, with the cursor."""
    account = await add_account(office, "service")
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, *[a_mail(str(number)) for number in range(60)])
        await fetch_now(office, account)
        await brought(office, 60)
    times = [row["received_at"] for row in await ledger(office)]
    assert len(set(times)) <= 4  # a look may have come between the appends
    assert sorted(times) == times


async def test_a_mail_expunged_between_search_and_fetch_is_passed_over(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(25)])
        assert multiply(client, times=4) == 400
        async with replica(office):
            await brought(office, 1)
            client.select("INBOX")
            # The reconciler goes downwards, and has not come so far.
            client.uid("STORE", "1:10", "+FLAGS", "(\\Deleted)")
            client.expunge()
            await brought(office, 390)
            put_mail(client, a_mail("afterwards"))
            await fetch_now(office, account)
            await until(lambda: _has_uid(office, 401))
    uids = [row["uid"] for row in await ledger(office)]
    assert set(range(11, 402)) <= set(uids)
    assert not any(row["state"] == "parked" for row in await ledger(office))


async def _has_uid(office: Office, uid: int) -> bool:
    return any(event.uid == uid for event in await received(office))


async def test_a_new_uidvalidity_joins_known_mails_and_publishes_new_ones(office: Office) -> None:
    account = await add_account(office, "service", folders=(Folder("Projects", "other"),))
    known, new = a_mail("known"), a_mail("new")
    with other_client(office, account) as client:
        client.create("Projects")
        put_mail(client, known, folder="Projects")
        async with replica(office):
            (first,) = await brought(office, 1)
            client.delete("Projects")
            client.create("Projects")
            put_mail(client, known, new, folder="Projects")
            await fetch_now(office, account)
            events = await brought(office, 2)
            await until(lambda: _rows(office, 3))
    assert events[1].uidvalidity != first.uidvalidity
    assert events[1].raw.size == len(new)
    joined = [row for row in await ledger(office) if row["state"] == "joined"]
    assert [(row["uidvalidity"], row["joins"]) for row in joined] == [
        (events[1].uidvalidity, first.arrival)
    ]
    assert len(await received(office)) == 2


async def _rows(office: Office, count: int) -> bool:
    return len(await ledger(office)) == count


async def test_after_a_new_uidvalidity_new_mails_are_new_though_their_uids_were_used(
    office: Office,
) -> None:
    account = await add_account(office, "service", folders=(Folder("Projects", "other"),))
    with other_client(office, account) as client:
        client.create("Projects")
        put_mail(client, *[a_mail(str(number)) for number in range(5)], folder="Projects")
        async with replica(office):
            await brought(office, 5)
            client.delete("Projects")
            client.create("Projects")
            await fetch_now(office, account)
            await until(lambda: _next_uid(office, 1))
            put_mail(client, a_mail("below the old cursor"), folder="Projects")
            await fetch_now(office, account)
            events = await brought(office, 6)
    assert events[-1].uid == 1


async def _next_uid(office: Office, uid: int) -> bool:
    async with office.engine.begin() as tx:
        found = select(folders.c.next_uid).where(folders.c.name.in_(["INBOX", "Projects"]))
        return bool((await tx.execute(found)).scalar_one() == uid)


async def test_the_cursor_moves_with_the_mails_that_it_passed(office: Office) -> None:
    account = await add_account(office, "service")
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"), a_mail("2"))
        await fetch_now(office, account)
        await brought(office, 2)
        assert await _next_uid(office, 3)


async def test_a_mail_that_the_ledger_has_is_neither_recorded_nor_told_again(
    office: Office,
) -> None:
    """Two looks of a replica that was taken for dead may cross."""
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    async with replica(office):
        (event,) = await brought(office, 1)
    async with office.engine.begin() as tx:
        row = await store.folder(tx, account.id, "INBOX")
        place = Place(account.id, START, row.id, "INBOX", "inbox", event.uidvalidity)
        again = Stored(imap.Listed(event.uid, 1, None, ()), event.raw)
        rows = arrivals(place, [again], {}, LONG_AGO)
        assert await store.record(tx, place, rows) == []
    (kept,) = await ledger(office)
    assert kept["received_at"] == event.received_at


@pytest.mark.parametrize("crashpoint", ["fetcher.objects_written", "fetcher.ledger_committed"])
async def test_a_kill_at_any_step_loses_no_mail_and_brings_none_twice(
    office: Office, crashpoint: str
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(60)])
    async with process(office, "doomed", crashpoint, lease_seconds=1) as doomed:
        assert await doomed.wait() == -signal.SIGKILL
    async with replica(office, "heir", lease_seconds=1):
        events = await brought(office, 60)
        await until(lambda: _held_by_heir(office))
    assert sorted(event.uid for event in events) == list(range(1, 61))
    assert len(await ledger(office)) == 60
    for event in events:
        await objects.get(office.resources().objects, event.raw.sha256)


async def _held_by_heir(office: Office) -> bool:
    return list((await holders(office)).values()) == ["heir"]


def test_inboxes_come_last_because_idle_waits_there() -> None:
    listed = [imap.ListedFolder("INBOX", "inbox"), imap.ListedFolder("Gesendet", "sent")]
    account = _account()
    names = [folder.name for folder in folders_of(account, listed)]
    assert names == ["Gesendet", "INBOX"]


def test_without_a_sent_folder_the_inbox_is_read_alone() -> None:
    listed = [imap.ListedFolder("INBOX", "inbox")]
    assert [folder.name for folder in folders_of(_account(), listed)] == ["INBOX"]


def _account() -> Account:
    return Account(
        id=UUID(int=1),
        name="service",
        address="service@office.test",
        display_name="",
        mailbox=UUID(int=2),
        imap=None,
        smtp=None,
        folders=(),
        sent="append",
        sent_folder=None,
        unknown="resend",
        start=START,
        interval=60,
        calendar=None,
        timezone="UTC",
        idle=True,
        enabled=True,
    )
