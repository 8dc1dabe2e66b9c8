"""A replica is killed beside its way: a folder found, mails parked and given up, how it fares."""

import asyncio
from collections.abc import Callable
from signal import SIGKILL

from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    ledger,
    observed,
    other_client,
    process,
    put_mail,
    replica,
)
from tests.fetcher.test_parking import body_of, healed, parked
from tests.imap.between import Between, Deed
from tests.waiting import until


async def killed_at(office: Office, crashpoint: str) -> None:
    async with process(office, "doomed", crashpoint, lease_seconds=1) as doomed:
        assert await asyncio.wait_for(doomed.wait(), 60) == -SIGKILL


async def test_killed_after_a_folder_was_found_its_mails_are_holes_and_are_brought(
    office: Office,
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(60)])
    await killed_at(office, "fetcher.folder_committed")
    assert await ledger(office) == []
    with other_client(office, account) as client:
        put_mail(client, a_mail("new"))
    async with replica(office, "heir", lease_seconds=1):
        events = await brought(office, 61)
    assert sorted(event.uid for event in events) == list(range(1, 62))


async def test_killed_after_a_mail_was_parked_the_others_are_brought_and_it_is_asked_for_again(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(2, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(4)])
    await killed_at(office, "fetcher.mail_parked")
    assert await parked(office) == [2]
    middle.rule = body_of(99, Deed.CUT)
    clock_offset(61)
    async with replica(office, "heir", lease_seconds=1):
        events = await brought(office, 4)
    assert sorted(event.uid for event in events) == [1, 2, 3, 4]
    assert [row["state"] for row in await ledger(office)] == ["published"] * 4


async def test_killed_after_a_parked_mail_was_given_up_the_others_are_still_asked_for(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = lambda line: b"TAG NO broken\r\n" if b"(UID BODY" in line else None
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"), a_mail("2"))
        async with replica(office, lease_seconds=1):
            await until(lambda: both_parked(office), within=30)
        client.select("INBOX")
        client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        client.expunge()
    middle.rule = body_of(99, Deed.CUT)
    clock_offset(61)
    await killed_at(office, "fetcher.parked_given_up")
    async with replica(office, "heir", lease_seconds=1):
        (event,) = await brought(office, 1)
        await until(lambda: healed(office, account))
    assert event.uid == 2
    assert [row["state"] for row in await ledger(office)] == ["parked", "published"]


async def both_parked(office: Office) -> bool:
    return await parked(office) == [1, 2]


async def test_killed_after_it_was_told_how_an_account_fares_it_is_not_told_again(
    office: Office,
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    await killed_at(office, "fetcher.standing_committed")
    async with replica(office, "heir", lease_seconds=1):
        with other_client(office, account) as client:
            put_mail(client, a_mail("2"))
        await brought(office, 2)
    assert [told.state for told in await observed(office, account)] == ["ok"]
