"""A broken account shows in a person's words, disturbs no other, and heals."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from nacl.public import PrivateKey

from deploy import local
from mailroom.directory import Account, Folder
from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    change_account,
    fetch_now,
    multiply,
    observed,
    other_client,
    process,
    put_mail,
    received,
    replica,
)
from tests.imap.between import Between
from tests.local.mail import PASSWORD
from tests.waiting import NotInTime, until


async def _shows(office: Office, account: Account, words: str) -> bool:
    told = await observed(office, account)
    assert told, "nothing observed"
    assert words in told[-1].problem, told[-1]
    return told[-1].state == ("failing" if words else "ok")


async def test_a_wrong_password_shows_and_heals_when_it_is_changed(office: Office) -> None:
    account = await add_account(office, "service", password="wrong")
    async with replica(office):
        await until(
            lambda: _shows(office, account, f"wrong user or password for {account.address}")
        )
        await change_account(office, account, password=PASSWORD)
        await until(lambda: _healed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await fetch_now(office, account)
        await brought(office, 1)
    first, last = await observed(office, account)
    assert (first.state, last.state, last.problem) == ("failing", "ok", "")
    assert last.since >= first.since


async def _healed(office: Office, account: Account) -> bool:
    return (await observed(office, account))[-1].state == "ok"


async def test_a_password_that_the_server_changed_back_heals_by_itself_or_on_demand(
    office: Office,
) -> None:
    account = await add_account(office, "service")
    local.add_mail_user(office.servers, account.address, "another")
    async with replica(office):
        await until(lambda: _shows(office, account, "wrong user or password"))
        local.add_mail_user(office.servers, account.address, PASSWORD)

        async def heals() -> bool:
            await fetch_now(office, account)  # Dovecot takes a second to see it
            return await _healed(office, account)

        await until(heals)


async def test_a_refused_password_is_tried_once_more_for_each_wish(
    office: Office, middle: Between
) -> None:
    """A provider locks the account of whoever tries it again and again."""
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = lambda line: b"TAG NO wrong\r\n" if b" LOGIN " in line else None

    def tries() -> int:
        return sum(b" LOGIN " in line for line in middle.lines)

    async with replica(office):
        await until(lambda: _shows(office, account, "wrong user or password"))
        for wishes in (1, 2):
            await fetch_now(office, account)
            await until(lambda: tries() > wishes)  # noqa: B023
            with pytest.raises(NotInTime):
                await until(lambda: tries() > wishes + 1, within=1)  # noqa: B023


async def test_a_password_is_in_no_event(office: Office) -> None:
    account = await add_account(office, "service", password="wrong-and-secret")
    async with replica(office):
        await until(lambda: _shows(office, account, "wrong user or password"))
    assert all("wrong-and-secret" not in str(event) for event in await observed(office, account))


async def test_broken_accounts_disturb_no_other(office: Office, middle: Between) -> None:
    middle.silent = True
    broken = [
        await add_account(office, "a-closed", port=1),
        await add_account(office, "b-silent", tls="none", port=middle.port),
        await add_account(office, "c-wrong", password="wrong"),
        await add_account(office, "d-plain", port=office.servers.dovecot.imap),
        await add_account(office, "e-sealed-for-another", password=""),
    ]
    good = await add_account(office, "z-good")
    with other_client(office, good) as client:
        put_mail(client, a_mail("1"))
    async with replica(office, answer_seconds=2):
        await brought(office, 1, within=5)
        await until(lambda: _shows(office, broken[0], "connection refused: nothing listens there"))
        await until(lambda: _shows(office, broken[1], "timed out: no answer"))
        await until(lambda: _shows(office, broken[2], "wrong user or password"))
        await until(lambda: _shows(office, broken[3], "no TLS"))
        await until(lambda: _shows(office, good, ""))


async def test_a_folder_that_is_refused_on_one_connection_alone_is_read_on_the_next(
    office: Office, middle: Between
) -> None:
    """As by Dovecot, when it lost the numbers of a folder that the connection had seen before."""
    account = await add_account(office, "service", tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    middle.rule = lambda line: (
        b"TAG NO [SERVERBUG] Internal error occurred.\r\n"
        if b'EXAMINE "INBOX"' in line and middle.accepted == 1
        else None
    )
    async with replica(office):
        await until(lambda: _shows(office, account, "INBOX"))
        await brought(office, 1)
        await until(lambda: _shows(office, account, ""))
    assert middle.accepted == 2


async def test_a_missing_folder_shows_and_the_others_are_read(office: Office) -> None:
    chosen = (Folder("INBOX", "inbox"), Folder("Projects", "other"))
    account = await add_account(office, "service", folders=chosen)
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
        async with replica(office):
            await brought(office, 1)
            await until(lambda: _shows(office, account, "no folder 'Projects'"))
            client.create("Projects")
            put_mail(client, a_mail("2"), folder="Projects")
            await fetch_now(office, account)
            await brought(office, 2)
            await until(lambda: _shows(office, account, ""))


async def test_a_folder_that_is_removed_while_it_is_read_shows_and_stops_no_other(
    office: Office,
) -> None:
    chosen = (Folder("INBOX", "inbox"), Folder("Projects", "other"))
    account = await add_account(office, "service", folders=chosen)
    with other_client(office, account) as client:
        client.create("Projects")
        put_mail(client, *[a_mail(str(number)) for number in range(25)], folder="Projects")
        multiply(client, times=4, folder="Projects")
        client.select("INBOX", readonly=True)  # to whom has it open, its removal ends the session
        async with replica(office):
            await brought(office, 1)
            client.delete("Projects")
            put_mail(client, a_mail("in the inbox"))
            await fetch_now(office, account)
            await until(lambda: _shows(office, account, "no folder 'Projects'"))
            await until(lambda: _inbox_was_read(office))


async def test_a_sent_folder_that_is_gone_while_it_is_read_is_forgotten(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", idle=True, tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(25)], folder="Sent")
        multiply(client, times=4, folder="Sent")

    def gone(line: bytes) -> bytes | None:
        if b" LIST " in line:
            return b'* LIST () "/" INBOX\r\nTAG OK done\r\n'
        return b"TAG NO [NONEXISTENT] gone\r\n" if b'EXAMINE "Sent"' in line else None

    async with replica(office):
        await brought(office, 1)
        middle.rule = gone
        middle.cut()
        await until(lambda: any(line.endswith(b" IDLE") for line in middle.lines))
        assert [told.state for told in await observed(office, account)] == ["ok"]


async def _inbox_was_read(office: Office) -> bool:
    return any(event.folder == "INBOX" for event in await received(office))


async def test_a_folder_with_copies_of_all_others_is_not_read(
    office: Office, middle: Between
) -> None:
    """Gmail's All Mail would bring every mail a second time."""
    chosen = (Folder("INBOX", "inbox"), Folder("All Mail", "other"))
    account = await add_account(office, "service", folders=chosen, tls="none", port=middle.port)
    listed = b'* LIST () "/" INBOX\r\n* LIST (\\All) "/" "All Mail"\r\nTAG OK done\r\n'
    middle.rule = lambda line: listed if b" LIST " in line else None
    with other_client(office, account) as client:
        client.create('"All Mail"')
        put_mail(client, a_mail("1"))
        put_mail(client, a_mail("1"), folder='"All Mail"')
        async with replica(office):
            await brought(office, 1)
            words = "folder 'All Mail' holds copies of all others"
            await until(lambda: _shows(office, account, words))
    assert {event.folder for event in await received(office)} == {"INBOX"}


async def test_a_sealed_password_that_no_key_opens_shows(office: Office) -> None:
    account = await add_account(office, "service")
    ring = office.settings.unseal_keys_file
    ring.write_text("A" * 43 + "=\n")
    async with replica(office):
        await until(lambda: _shows(office, account, "cannot be opened: no key of the ring fits"))


async def test_a_wish_to_fetch_an_account_whose_password_no_key_opens_stops_no_other(
    office: Office,
) -> None:
    stranger = replace(office, seal_key=PrivateKey.generate().public_key)
    sealed = await add_account(stranger, "sealed-for-another")
    account = await add_account(office, "service")
    async with process(office, "one"):
        await until(lambda: _shows(office, sealed, "no key of the ring fits"), within=20)
        await until(lambda: _shows(office, account, ""))
        await fetch_now(office, sealed)
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await fetch_now(office, account)
        await brought(office, 1)


async def test_it_is_told_once_an_hour_how_an_account_fares(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"), a_mail("2"))
    async with replica(office):
        await brought(office, 2)
        await until(lambda: observed(office, account))
        await fetch_now(office, account)
        clock_offset(3601)
        await fetch_now(office, account)
        await until(lambda: _told_twice(office, account))
    first, last = await observed(office, account)
    assert (first.state, last.state) == ("ok", "ok")
    assert first.since == last.since
    assert last.mails == 2


async def _told_twice(office: Office, account: Account) -> bool:
    return len(await observed(office, account)) == 2
