"""A mail that the server does not list or deliver is parked, shown, asked for again, and stops no
other."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from mailroom.directory import Account
from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    fetch_now,
    ledger,
    observed,
    other_client,
    put_mail,
    received,
    replica,
)
from tests.imap.between import Between, Deed, Instead, Rule, forward
from tests.waiting import until


def body_of(uid: int, deed: bytes | Deed) -> Rule:
    """Do this to each command that asks for the body of a UID."""
    return _asking_for(rb"BODY", uid, deed)


def listing_of(uid: int, deed: bytes | Deed) -> Rule:
    """Do this to each command that asks for the size of a UID."""
    return _asking_for(rb"RFC822\.SIZE", uid, deed)


def _asking_for(what: bytes, uid: int, deed: bytes | Deed) -> Rule:
    def rule(line: bytes) -> bytes | Deed | None:
        asked = re.search(rb"UID FETCH (\S+) \(UID " + what, line)
        return deed if asked and uid in _uids(asked[1].decode()) else None

    return rule


def leaving_out(uid: int) -> Rule:
    """Leave a UID out of the answer to each command that asks for its size."""

    def rule(line: bytes) -> bytes | Instead | None:
        asked = re.search(rb"UID FETCH (\S+) \(UID RFC822\.SIZE", line)
        uids = _uids(asked[1].decode()) if asked else set()
        if asked is None or uid not in uids:
            return None
        others = ",".join(map(str, sorted(uids - {uid}))).encode()
        return Instead(line.replace(asked[1], others, 1)) if others else b"TAG OK done\r\n"

    return rule


def _uids(text: str) -> set[int]:
    uids: set[int] = set()
    for span in text.split(","):
        first, _, last = span.partition(":")
        uids.update(range(int(first), int(last or first) + 1))
    return uids


async def parked(office: Office) -> list[int]:
    rows = [row for row in await ledger(office) if row["state"] == "parked"]
    assert rows, "nothing is parked"
    return [row["uid"] for row in rows]


async def test_a_refused_mail_is_parked_and_the_others_are_brought(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(2, b"TAG NO [SERVERBUG] cannot read that one\r\n")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(4)])
    async with replica(office):
        events = await brought(office, 3)
        assert await until(lambda: parked(office)) == [2]
    assert sorted(event.uid for event in events) == [1, 3, 4]
    (row,) = [row for row in await ledger(office) if row["state"] == "parked"]
    assert "the server says: [SERVERBUG] cannot read that one" in row["problem"]


async def test_a_mail_missing_from_every_answer_is_parked(office: Office, middle: Between) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(2, b"TAG OK done\r\n")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(3)])
    async with replica(office):
        events = await brought(office, 2)
        assert await until(lambda: parked(office)) == [2]
    assert sorted(event.uid for event in events) == [1, 3]


async def test_a_mail_on_which_the_connection_breaks_is_parked_and_blocks_no_other(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(2, Deed.CUT)
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(4)])
    async with replica(office):
        events = await brought(office, 3, within=30)
        assert await until(lambda: parked(office), within=30) == [2]
    assert sorted(event.uid for event in events) == [1, 3, 4]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (listing_of(2, b"TAG NO [SERVERBUG] cannot read that one\r\n"), "[SERVERBUG] cannot read"),
        (leaving_out(2), "the server has this mail, but does not list it"),
        (listing_of(2, Deed.CUT), "connection lost"),
    ],
    ids=["refused", "left out", "cut"],
)
async def test_a_mail_that_is_not_listed_is_parked_and_blocks_neither_mail_nor_folder(
    office: Office, middle: Between, rule: Rule, problem: str
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = rule
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(4)], folder="Sent")
        put_mail(client, a_mail("1"))
    async with replica(office):
        events = await brought(office, 4, within=30)
        await until(lambda: _shows(office, account, "the first is UID 2 in 'Sent'"))
    assert sorted(event.uid for event in events if event.folder == "Sent") == [1, 3, 4]
    (row,) = [row for row in await ledger(office) if row["state"] == "parked"]
    assert row["uid"] == 2
    assert problem in row["problem"]


@pytest.mark.parametrize(
    "rule", [listing_of(2, b"TAG NO gone\r\n"), leaving_out(2)], ids=["refused", "left out"]
)
async def test_a_mail_that_is_removed_before_it_is_listed_is_not_parked(
    office: Office, middle: Between, rule: Rule
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(3)])
        client.select("INBOX")

        def removed_meanwhile(line: bytes) -> bytes | Deed | Instead | None:
            deed = rule(line)
            if deed:
                client.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
                client.expunge()
            return deed

        middle.rule = removed_meanwhile
        async with replica(office):
            events = await brought(office, 2)
            await until(lambda: _shows(office, account, ""))
    assert sorted(event.uid for event in events) == [1, 3]
    assert len(await ledger(office)) == 2


async def test_a_parked_mail_that_is_still_not_listed_is_asked_for_again_and_stops_no_other(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = listing_of(1, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
        async with replica(office):
            await until(lambda: parked(office))
            clock_offset(61)
            put_mail(client, a_mail("2"))
            await fetch_now(office, account)
            await brought(office, 1)
            await until(lambda: _tried(office, 2))
            middle.rule = forward
            clock_offset(3600)
            await fetch_now(office, account)
            events = await brought(office, 2)
    assert [event.uid for event in events] == [2, 1]


async def _tried(office: Office, times: int) -> bool:
    return bool([row for row in await ledger(office) if row["tries"] == times])


async def test_a_connection_that_breaks_once_parks_nothing(office: Office, middle: Between) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    cuts: list[bytes] = []

    def cut_once(line: bytes) -> Deed | None:
        if b"BODY.PEEK" in line and not cuts:
            cuts.append(line)
            return Deed.CUT
        return None

    middle.rule = cut_once
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    async with replica(office):
        await brought(office, 1)
    assert cuts
    assert [row["state"] for row in await ledger(office)] == ["published"]


async def test_a_parked_mail_shows(office: Office, middle: Between) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(1, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))

    words = "1 mail is waited for, the first is UID 1 in 'INBOX'"
    async with replica(office):
        await until(lambda: parked(office))
        await fetch_now(office, account)
        await until(lambda: _shows(office, account, words))


async def _shows(office: Office, account: Account, words: str) -> bool:
    told = await observed(office, account)
    assert told, "nothing observed"
    return words in told[-1].problem and told[-1].state == ("failing" if words else "ok")


async def test_a_parked_mail_is_asked_for_again_and_then_is_as_any_other(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(1, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    async with replica(office):
        await until(lambda: parked(office))
        middle.rule = forward
        await fetch_now(office, account)
        assert await received(office) == []
        clock_offset(61)
        await fetch_now(office, account)
        (event,) = await brought(office, 1)
        await until(lambda: healed(office, account))
    (row,) = await ledger(office)
    assert (row["state"], row["sha256"], row["problem"]) == ("published", event.raw.sha256, "")


async def healed(office: Office, account: Account) -> bool:
    return await _shows(office, account, "")


async def test_a_parked_mail_that_is_removed_is_not_asked_for_and_not_shown_any_more(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(1, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
        async with replica(office):
            await until(lambda: parked(office))
            client.select("INBOX")
            client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
            client.expunge()
            clock_offset(61)
            await fetch_now(office, account)
            row = await until(lambda: _given_up(office))
            await until(lambda: _shows(office, account, ""))
    assert row["problem"].startswith("removed on the server; ")


async def _given_up(office: Office) -> Any:
    (row,) = await ledger(office)
    assert (row["state"], row["retry_at"]) == ("parked", None)
    return row
