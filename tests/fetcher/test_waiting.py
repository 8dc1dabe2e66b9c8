"""When new mail is noticed: by IDLE within about a second, else by interval or calendar."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from mailroom import clock
from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    fetch_now,
    observed,
    other_client,
    put_mail,
    replica,
)
from tests.imap.between import Between
from tests.waiting import until


async def _idles(middle: Between) -> bool:
    return any(line.endswith(b" IDLE") for line in middle.lines)


async def test_idle_brings_a_mail_within_about_a_second(office: Office, middle: Between) -> None:
    account = await add_account(
        office, "service", idle=True, interval_seconds=600, tls="none", port=middle.port
    )
    async with replica(office):
        await until(lambda: _idles(middle))
        with other_client(office, account) as client:
            began = time.monotonic()
            put_mail(client, a_mail("1"))
        await brought(office, 1)
        assert time.monotonic() - began < 2.5
        with other_client(office, account) as client:
            put_mail(client, a_mail("2"))
        await brought(office, 2)


async def test_without_idle_the_interval_brings_it(office: Office) -> None:
    account = await add_account(office, "service", idle=False, interval_seconds=5)
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await brought(office, 1, within=8)


async def test_a_server_that_has_no_idle_is_asked_by_interval(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", idle=True, tls="none", port=middle.port)
    middle.rule = lambda line: (
        b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n" if b"CAPABILITY" in line else None
    )
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await brought(office, 1, within=8)
    assert not await _idles(middle)


async def test_a_server_that_refuses_idle_is_asked_by_interval_and_is_no_failure(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", idle=True, tls="none", port=middle.port)
    middle.rule = lambda line: b"TAG NO not here\r\n" if line.endswith(b" IDLE") else None
    async with replica(office):
        await until(lambda: _idles(middle))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await fetch_now(office, account)
        await brought(office, 1, within=8)
    assert [event.state for event in await observed(office, account)] == ["ok"]
    assert len([line for line in middle.lines if line.endswith(b" IDLE")]) == 1


async def test_the_interval_reads_other_folders_while_idle_waits_for_the_inbox(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", idle=True, tls="none", port=middle.port)
    async with replica(office):
        await until(lambda: _idles(middle))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"), folder="Sent")
        (event,) = await brought(office, 1, within=8)
    assert event.role == "sent"


async def test_a_silently_dead_connection_is_noticed_within_the_interval(
    office: Office, middle: Between
) -> None:
    account = await add_account(
        office, "service", idle=True, interval_seconds=5, tls="none", port=middle.port
    )
    async with replica(office):
        await until(lambda: _idles(middle))
        before = middle.accepted
        middle.silent = True
        silent_since = time.monotonic()
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await until(lambda: middle.accepted > before, within=9)
        assert time.monotonic() - silent_since < 7  # the interval, and the pause after it
        middle.silent = False
        middle.cut()
        await brought(office, 1, within=20)


async def test_a_kept_connection_that_died_is_replaced_without_an_alarm(
    office: Office, middle: Between
) -> None:
    account = await add_account(office, "service", idle=True, tls="none", port=middle.port)
    async with replica(office):
        await until(lambda: _idles(middle))
        middle.lines.clear()
        middle.cut()
        await until(lambda: _idles(middle))
    assert [event.state for event in await observed(office, account)] == ["ok"]


async def test_an_account_is_fetched_at_once_when_somebody_wants_it(office: Office) -> None:
    account = await add_account(office, "service", interval_seconds=3000)
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        await fetch_now(office, account)
        await brought(office, 1, within=3)


async def test_an_account_is_fetched_at_once_also_after_the_clock_was_put_back(
    office: Office, clock_offset: Callable[[float], None]
) -> None:
    account = await add_account(office, "service", interval_seconds=3600)
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("now"))
        clock_offset(-3600)
        await fetch_now(office, account)
        await brought(office, 1)


async def test_an_idle_account_is_fetched_at_once_too(office: Office, middle: Between) -> None:
    account = await add_account(
        office, "service", idle=True, interval_seconds=3000, tls="none", port=middle.port
    )
    async with replica(office):
        await until(lambda: _idles(middle))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"), folder="Sent")  # which IDLE does not watch
        await fetch_now(office, account)
        await brought(office, 1, within=3)


@pytest.mark.parametrize("idle", [False, True])
async def test_who_waits_for_a_calendar_shows_life_all_the_same(
    office: Office,
    clock_offset: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    idle: bool,
) -> None:
    monkeypatch.setattr("mailroom_fetcher.account.SIGN_OF_LIFE", 0.2)
    in_months = f"0 0 1 {(clock.now() + timedelta(days=62)).month} *"
    account = await add_account(office, "service", idle=idle, calendar=in_months)

    async def told(times: int) -> bool:
        return len(await observed(office, account)) == times

    async with replica(office):
        await until(lambda: told(1))
        clock_offset(3601)
        await until(lambda: told(2))
    first, second = await observed(office, account)
    assert (first.state, second.state) == ("ok", "ok")
    assert second.observed_at > first.observed_at


async def test_a_calendar_says_when_to_look(office: Office) -> None:
    minute = (clock.now() + timedelta(minutes=10)).minute
    account = await add_account(office, "service", calendar=f"{minute} * * * *")
    async with replica(office):
        await until(lambda: observed(office, account))
        with other_client(office, account) as client:
            put_mail(client, a_mail("1"))
        with pytest.raises(AssertionError):  # though the interval is over
            await brought(office, 1, within=5.5)
        await fetch_now(office, account)
        await brought(office, 1, within=3)
