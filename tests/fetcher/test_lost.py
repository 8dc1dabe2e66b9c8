"""Bytes that the object store lost are brought again where a mail server still has them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text, update

from mailroom import clock, objects
from mailroom.contracts import MailFetch, MailReceived, ObjectRef
from mailroom.directory import Account, Folder
from mailroom.messaging.envelope import Received
from mailroom_fetcher import leases, service
from mailroom_fetcher.store import folders, mails
from tests.core.test_objects import DAMAGES, Damage
from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    events,
    fetch_now,
    ledger,
    observed,
    other_client,
    put_mail,
    received,
    replica,
)
from tests.imap.between import Between, forward
from tests.waiting import until

MAIL = a_mail("My printer is on fire")
LARGE = a_mail("See the attached film", size=9_000_000)


async def ask_for(office: Office, raw: ObjectRef, problem: str = "it is corrupt") -> None:
    """As the handler of `mail.fetch` does."""
    command = MailFetch(raw=raw, problem=problem)
    event = Received("event", command, "router", "correlation", clock.now())
    async with office.engine.begin() as tx:
        assert await service.fetch_again(tx, [event], office.resources()) == ()


def object_of(office: Office, event: MailReceived) -> Path:
    return office.objects / event.raw.sha256[:2] / event.raw.sha256


async def mended(office: Office, event: MailReceived, mail: bytes = MAIL) -> None:
    async def sound() -> bool:
        return await objects.fault_of(office.resources().objects, event.raw.sha256) is None

    await until(sound, within=20)
    assert await objects.get(office.resources().objects, event.raw.sha256) == mail


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_lost_bytes_are_brought_again_and_the_mail_is_told_again_under_the_same_ids(
    office: Office, damage: Damage
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, MAIL, a_mail("Another one"))
    async with replica(office):
        first, _ = await brought(office, 2)
        damage(object_of(office, first))
        await ask_for(office, first.raw)
        await mended(office, first)
        again = (await brought(office, 3))[-1]
    assert (again.arrival, again.raw) == (first.arrival, first.raw)
    told = [row["event_id"] for row in await events(office, "mail.received")]
    assert told[0] == told[2]
    rows = {row["uid"]: row for row in await ledger(office)}
    assert [rows[uid]["state"] for uid in (1, 2)] == ["published", "published"]
    assert rows[1]["received_at"] == first.received_at
    assert rows[1]["problem"] == "its bytes in the object store were lost, and brought again"
    assert (await observed(office, account))[-1].state == "ok"


async def test_a_large_mail_is_brought_again_in_pieces(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, LARGE)
    async with replica(office):
        (event,) = await brought(office, 1, within=30)
        object_of(office, event).write_bytes(b"damaged")
        await ask_for(office, event.raw)
        await mended(office, event, LARGE)


async def test_the_mails_of_an_account_are_counted_once_however_often_they_are_brought(
    office: Office,
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, MAIL)
    async with replica(office):
        (event,) = await brought(office, 1)
        for times in (2, 3):
            object_of(office, event).unlink()
            await ask_for(office, event.raw)
            await brought(office, times)
            await mended(office, event)
        async with office.engine.begin() as tx:
            assert await mails(tx, account.id) == 1


async def test_who_asks_for_lost_bytes_and_who_records_a_mail_do_not_wait_for_each_other(
    office: Office,
) -> None:
    """Two transactions, of which one began to record and the other to ask."""
    accounts = [await add_account(office, name) for name in ("first", "second")]
    for account in accounts:
        with other_client(office, account) as client:
            put_mail(client, MAIL)
    async with replica(office):
        event = (await brought(office, 2))[0]
    object_of(office, event).unlink()
    async with office.engine.begin() as tx:
        await leases.alive(tx, "one", clock.now(), timedelta(seconds=60))
        await leases.claim(tx, "one", [account.id for account in accounts], 2)
    async with office.engine.begin() as tx:
        first, second = sorted(account.id for account in accounts)
        await leases.hold(tx, leases.Lease(first, "one"))
        asking = asyncio.create_task(ask_for(office, event.raw))
        await until(lambda: _waits_for_a_lock(office))
        await leases.hold(tx, leases.Lease(second, "one"))
        await tx.execute(update(folders).values(next_uid=7))
    await asking
    assert [row["state"] for row in await ledger(office)] == ["parked", "parked"]


async def _waits_for_a_lock(office: Office) -> bool:
    waiting = text(
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with office.engine.begin() as tx:
        return bool((await tx.execute(waiting)).scalar_one())


async def test_what_is_sound_is_not_fetched_again(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, MAIL)
    async with replica(office):
        (event,) = await brought(office, 1)
    await ask_for(office, event.raw)
    assert [row["state"] for row in await ledger(office)] == ["published"]


async def test_another_account_that_has_the_same_bytes_brings_them(office: Office) -> None:
    gone, kept = await add_account(office, "gone"), await add_account(office, "kept")
    for account in (gone, kept):
        with other_client(office, account) as client:
            put_mail(client, MAIL)
    async with replica(office):
        event = (await brought(office, 2))[0]
        remove_all(office, gone)
        object_of(office, event).write_bytes(b"")
        await ask_for(office, event.raw)
        await mended(office, event)
        await until(lambda: _given_up(office, gone))
        # Its bytes are there before its row says so.
        await until(lambda: _are_published(office))


async def _are_published(office: Office) -> bool:
    return [row["state"] for row in await ledger(office)] == ["published", "published"]


def remove_all(office: Office, account: Account) -> None:
    with other_client(office, account) as client:
        client.select("INBOX")
        client.store("1:*", "+FLAGS", "(\\Deleted)")
        client.expunge()


async def _given_up(office: Office, account: Account) -> bool:
    (row,) = await ledger(office, account)
    assert row["state"] == "published"
    assert row["problem"].startswith(
        "removed on the server; its bytes in the object store are lost"
    )
    return True


async def test_a_mail_that_the_server_has_no_more_stays_on_record_with_what_became_of_it(
    office: Office,
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, MAIL)
    async with replica(office):
        (event,) = await brought(office, 1)
        remove_all(office, account)
        object_of(office, event).write_bytes(b"damaged")
        await ask_for(office, event.raw, "the object is corrupt")
        await until(lambda: _given_up(office, account))
    assert object_of(office, event).read_bytes() == b"damaged"
    assert len(await received(office)) == 1


async def test_a_mail_that_cannot_be_brought_again_yet_makes_its_account_failing_and_comes_later(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, MAIL)
    async with replica(office):
        (event,) = await brought(office, 1)
        middle.rule = lambda line: b"TAG NO broken\r\n" if b"BODY.PEEK" in line else None
        object_of(office, event).unlink()
        await ask_for(office, event.raw)

        async def shown() -> bool:
            last = (await observed(office, account))[-1]
            return last.problem.startswith("1 mail is waited for, the first is UID 1 in 'INBOX'")

        await until(shown)
        middle.rule = forward
        clock_offset(61)
        await fetch_now(office, account)
        await mended(office, event)


async def test_under_a_new_uidvalidity_the_mail_is_brought_by_its_new_uid(office: Office) -> None:
    account = await add_account(office, "service", folders=[Folder("Cases", "other")])
    with other_client(office, account) as client:
        client.create("Cases")
        put_mail(client, MAIL, folder="Cases")
        async with replica(office):
            (event,) = await brought(office, 1)
        object_of(office, event).unlink()
        await ask_for(office, event.raw)
        client.delete("Cases")
        client.create("Cases")
        put_mail(client, MAIL, folder="Cases")
    async with replica(office):
        await mended(office, event)
        states = await until(lambda: _both(office))
    assert states == [("published", None), ("joined", event.arrival)]


async def _both(office: Office) -> list[tuple[str, UUID | None]]:
    rows = [(row["state"], row["joins"]) for row in await ledger(office)]
    assert len(rows) == 2
    return rows
