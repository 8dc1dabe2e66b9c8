"""IDLE: new mail is heard of at once, and a silently dead connection is noticed."""

import asyncio
import time

import pytest

from mailroom import imap
from tests.imap.between import Between, Deed
from tests.imap.conftest import User
from tests.imap.scripted import scripted
from tests.local.mail import logged_in
from tests.waiting import until


async def test_a_new_mail_is_heard_of_within_about_a_second(
    user: User, connection: imap.Connection
) -> None:
    await imap.examine(connection, "INBOX")
    waiting = asyncio.create_task(imap.idle(connection, 20))
    await until(connection.has_pending_idle_command)
    began = time.monotonic()
    with logged_in(user.servers, user.address) as client:
        client.append("INBOX", "", "", b"Subject: x\r\n\r\n")
    assert await waiting is True
    assert time.monotonic() - began < 1.5
    assert await imap.search_uids(connection) == [1]


async def test_without_news_it_ends_when_it_should(connection: imap.Connection) -> None:
    await imap.examine(connection, "INBOX")
    assert await imap.idle(connection, 0.3) is False
    assert await imap.search_uids(connection) == []


async def test_news_between_opening_and_idling_are_not_lost(
    user: User, connection: imap.Connection
) -> None:
    """The server tells them in the answer to another command, where nobody waits for them."""
    await imap.examine(connection, "INBOX")
    with logged_in(user.servers, user.address) as client:
        client.append("INBOX", "", "", b"Subject: x\r\n\r\n")
    await until(lambda: _told(connection))
    assert await imap.idle(connection, 20) is True


async def _told(connection: imap.Connection) -> bool:
    await imap.search_uids(connection, 9)
    return connection.news.is_set()


async def test_mails_that_were_there_when_the_folder_was_opened_are_no_news(
    connection: imap.Connection,
) -> None:
    await imap.append(connection, "INBOX", b"Subject: x\r\n\r\n")
    await imap.examine(connection, "INBOX")
    assert await imap.idle(connection, 0.7) is False


async def test_it_can_be_woken(connection: imap.Connection) -> None:
    await imap.examine(connection, "INBOX")
    wake = asyncio.Event()
    waiting = asyncio.create_task(imap.idle(connection, 20, wake=wake))
    await until(connection.has_pending_idle_command)
    wake.set()
    async with asyncio.timeout(2):
        assert await waiting is False
    assert await imap.search_uids(connection) == []


async def test_idle_is_renewed(watched: imap.Connection, middle: Between) -> None:
    await imap.examine(watched, "INBOX")
    await imap.idle(watched, 1.0, renew=0.3)
    idles = [line for line in middle.lines if line.endswith(b" IDLE")]
    assert len(idles) >= 3
    assert middle.lines.count(b"DONE") == len(idles)


def test_idle_is_renewed_before_the_29_minutes_of_rfc_2177() -> None:
    from mailroom.imap.waiting import RENEW  # noqa: PLC0415

    assert RENEW < 29 * 60


async def test_a_silently_dead_connection_is_noticed_at_the_next_renewal(
    watched: imap.Connection, middle: Between
) -> None:
    await imap.examine(watched, "INBOX")
    waiting = asyncio.create_task(imap.idle(watched, 60, renew=0.5))
    await until(watched.has_pending_idle_command)
    middle.silent = True
    with pytest.raises(imap.TimedOut, match="IDLE"):
        async with asyncio.timeout(1.5):
            await waiting


async def test_a_cut_connection_is_noticed_at_once(
    watched: imap.Connection, middle: Between
) -> None:
    await imap.examine(watched, "INBOX")
    waiting = asyncio.create_task(imap.idle(watched, 60))
    await until(watched.has_pending_idle_command)
    middle.cut()
    with pytest.raises(imap.ConnectionLost):
        async with asyncio.timeout(1):
            await waiting


async def test_a_connection_that_was_cut_before_is_not_taken_for_news(
    watched: imap.Connection, middle: Between
) -> None:
    await imap.examine(watched, "INBOX")
    middle.cut()
    await until(lambda: watched.failure is not None)
    with pytest.raises(imap.ConnectionLost):
        await imap.idle(watched, 60)


async def test_a_server_without_idle_is_told(user: User) -> None:
    answers = {b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n"}
    async with scripted(answers) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 2)
        assert not imap.can_idle(connected)
        with pytest.raises(imap.IdleMissing, match="no IDLE"):
            await imap.idle(connected, 1)
        imap.close(connected)


async def test_a_refused_idle_is_told_and_the_connection_lives(
    watched: imap.Connection, middle: Between
) -> None:
    await imap.examine(watched, "INBOX")
    middle.rule = lambda line: b"TAG NO not now\r\n" if line.endswith(b" IDLE") else None
    with pytest.raises(imap.CommandRefused, match="IDLE refused; the server says: not now"):
        await imap.idle(watched, 5)
    assert await imap.search_uids(watched) == []


async def test_a_deaf_server_is_noticed(watched: imap.Connection, middle: Between) -> None:
    await imap.examine(watched, "INBOX")
    watched.limit = 0.3
    middle.rule = lambda line: Deed.SWALLOW if line.endswith(b" IDLE") else None
    with pytest.raises(imap.TimedOut):
        await imap.idle(watched, 5)


async def test_a_tls_connection_keeps_a_small_buffer(connection: imap.Connection) -> None:
    """asyncio's default is 256 KiB a connection: half a gigabyte for 2,000 idle accounts."""
    buffer = connection.transport._ssl_protocol._ssl_buffer
    assert len(buffer) == 16 * 1024
