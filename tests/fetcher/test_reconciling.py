"""The reconciler compares ledger and server, and fetches what the ledger lacks."""

from collections.abc import Callable

from sqlalchemy import delete, text, update

from mailroom_fetcher.folders import WINDOW
from mailroom_fetcher.store import arrivals, folders
from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    fetch_now,
    holders,
    ledger,
    multiply,
    observed,
    other_client,
    put_mail,
    replica,
)
from tests.imap.between import Between, Rule, forward
from tests.waiting import until

HOUR = 3600


async def _make_holes(office: Office, *uids: int) -> None:
    """As if the fetcher had passed over these UIDs: the cursor is behind them, the row missing."""
    async with office.engine.begin() as tx:
        await tx.execute(delete(arrivals).where(arrivals.c.uid.in_(uids)))
        await tx.execute(delete(office.resources().messaging.outbox))


async def test_a_hole_is_filled_at_the_start(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(5)])
    async with replica(office):
        await brought(office, 5)
    await _make_holes(office, 2, 4)
    async with replica(office):
        events = await brought(office, 2)
    assert [event.uid for event in events] == [2, 4]
    assert len(await ledger(office)) == 5


async def test_a_hole_is_filled_within_the_hour(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(3)])
    async with replica(office):
        await brought(office, 3)
        await until(lambda: observed(office, account))
        await _make_holes(office, 2)
        await fetch_now(office, account)
        clock_offset(HOUR)
        await fetch_now(office, account)
        (event,) = await brought(office, 1)
    assert event.uid == 2


async def test_a_mail_that_appears_late_is_found_without_waiting_for_the_hour(
    office: Office, middle: Between
) -> None:
    """Some servers show a mail only after a newer one; its UID is below the cursor then."""
    account = await add_account(office, "service", tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"), a_mail("2"))
        async with replica(office):
            await brought(office, 2)
            await until(lambda: observed(office, account))
            # As if the first had been hidden until now: fewer mails, the same UIDNEXT.
            (uidvalidity,) = {row["uidvalidity"] for row in await ledger(office)}
            await _make_holes(office, 1)
            answers: list[bytes] = []
            middle.rule = _hiding_one(uidvalidity, answers)
            await fetch_now(office, account)
            await until(lambda: b"SEARCH" in b"".join(answers))
            middle.rule = forward
            await fetch_now(office, account)
            (event,) = await brought(office, 1)
    assert event.uid == 1


def _hiding_one(uidvalidity: int, answers: list[bytes]) -> Rule:
    """INBOX has one mail, and no newer than before."""
    opened = b"* 1 EXISTS\r\n* OK [UIDVALIDITY %d] ok\r\n* OK [UIDNEXT 3] ok\r\n" % uidvalidity

    def rule(line: bytes) -> bytes | None:
        if b'EXAMINE "INBOX"' in line:
            answers.append(opened + b"TAG OK done\r\n")
        elif b"UID SEARCH" in line:
            answers.append(b"* SEARCH\r\nTAG OK done\r\n")
        else:
            return None
        return answers[-1]

    return rule


async def test_a_full_mailbox_is_brought_whole_in_windows_and_new_mail_does_not_wait(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", tls="none", port=middle.port)
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(5)])
        count = multiply(client, times=8)
        assert count > WINDOW
        async with replica(office):
            await brought(office, 1)
            put_mail(client, a_mail("new"))
            await fetch_now(office, account)
            events = await brought(office, count + 1, within=60)
    order = [event.uid for event in events]
    assert sorted(order) == list(range(1, count + 2))
    assert order.index(count + 1) < count  # it did not wait for the last of them
    assert order[0] > count - 250  # the newest come first
    positions = [line.split(b" ")[-1] for line in middle.lines if b"SEARCH" in line]
    assert b"281:1280" in positions
    assert b"1:280" in positions


async def test_a_comparison_is_noted(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, a_mail("1"))

    async def noted() -> int:
        async with office.engine.begin() as tx:
            found = text("SELECT count(*) FROM fetcher.folders WHERE reconciled_at IS NOT NULL")
            return int((await tx.execute(found)).scalar_one())

    async with replica(office):
        await brought(office, 1)
        await until(noted)


async def test_a_cursor_that_was_lost_costs_nothing(office: Office) -> None:
    account = await add_account(office, "service")
    with other_client(office, account) as client:
        put_mail(client, *[a_mail(str(number)) for number in range(3)])
    async with replica(office):
        await brought(office, 3)
    async with office.engine.begin() as tx:
        await tx.execute(update(folders).values(next_uid=1))
    async with replica(office, "two"):
        await until(lambda: _held_by(office, "two"))
        with other_client(office, account) as client:
            put_mail(client, a_mail("4"))
        await fetch_now(office, account)
        events = await brought(office, 4)
    assert sorted(event.uid for event in events) == [1, 2, 3, 4]


async def _held_by(office: Office, name: str) -> bool:
    return name in (await holders(office)).values()
