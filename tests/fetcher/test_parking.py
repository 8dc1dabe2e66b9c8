"""A mail that the server does not deliver is parked, shown, asked for again, and stops no other."""

import re
from collections.abc import Callable
from typing import Any

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
from tests.imap.between import Between, Deed, Rule
from tests.waiting import until


def body_of(uid: int, deed: bytes | Deed) -> Rule:
    """Do this to each command that asks for the body of a UID."""

    def rule(line: bytes) -> bytes | Deed | None:
        asked = re.search(rb"UID FETCH (\S+) \(UID BODY", line)
        return deed if asked and uid in _uids(asked[1].decode()) else None

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

    async def shown() -> bool:
        problem = (await observed(office, account))[-1].problem
        return "1 mail is waited for, the first is UID 1 in 'INBOX'" in problem

    async with replica(office):
        await until(lambda: parked(office))
        await fetch_now(office, account)
        await until(shown)


async def test_a_parked_mail_is_asked_for_again_and_then_is_as_any_other(
    office: Office, middle: Between, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    middle.rule = body_of(1, b"TAG NO broken\r\n")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))
    async with replica(office):
        await until(lambda: parked(office))
        middle.rule = body_of(99, b"")
        await fetch_now(office, account)
        assert await received(office) == []
        clock_offset(61)
        await fetch_now(office, account)
        (event,) = await brought(office, 1)
        await until(lambda: healed(office, account))
    (row,) = await ledger(office)
    assert (row["state"], row["sha256"], row["problem"]) == ("published", event.raw.sha256, "")


async def healed(office: Office, account: object) -> bool:
    return (await observed(office, account))[-1].state == "ok"  # type: ignore[arg-type]


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
            await until(lambda: healed(office, account))
    assert row["problem"].startswith("removed on the server; ")


async def _given_up(office: Office) -> Any:
    (row,) = await ledger(office)
    assert (row["state"], row["retry_at"]) == ("parked", None)
    return row
