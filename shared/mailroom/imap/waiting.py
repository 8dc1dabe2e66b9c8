"""IDLE (RFC 2177): hear of new mail at once.

Invariant: news is never lost between two commands: what the server told since the folder was
opened counts, also what it told before IDLE began. A silently dead connection is noticed at the
next renewal, at the latest.
"""

import asyncio

import aioimaplib

from mailroom.imap.connection import can_idle, close
from mailroom.imap.failures import CommandRefused, ConnectionLost, IdleMissing, TimedOut, said
from mailroom.imap.protocol import LOST, Connection

RENEW = 28 * 60.0
"""Seconds: servers may log out who was idle for 30 minutes, so RFC 2177 renews before 29."""


async def idle(
    connection: Connection,
    seconds: float,
    renew: float = RENEW,
    wake: asyncio.Event | None = None,
) -> bool:
    """Wait in the open folder; True when mail was added since it was opened, else False.

    Ends after `seconds`, or when `wake` is set. IDLE is renewed every `renew` seconds; a server
    that does not answer to that within `renew`, or the connection's limit, is dead. Raises
    IdleMissing, TimedOut, ConnectionLost.
    """
    if not can_idle(connection):
        raise IdleMissing(connection.endpoint)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    renew = min(renew, RENEW)
    limit = min(renew, connection.limit)
    woken = False
    while not (connection.news.is_set() or woken) and (left := end - loop.time()) > 0:
        woken = await _idle_once(connection, min(left, renew), limit, wake)
    if connection.failure is not None:
        raise connection.failure
    return connection.news.is_set()


async def _idle_once(
    connection: Connection, seconds: float, limit: float, wake: asyncio.Event | None
) -> bool:
    """One IDLE command; True when `wake` ended it."""
    running = asyncio.ensure_future(
        connection.execute(aioimaplib.Command("IDLE", connection.new_tag(), loop=connection.loop))
    )
    events = [asyncio.ensure_future(connection.news.wait()), running]
    if wake is not None:
        events.append(asyncio.ensure_future(wake.wait()))
    try:
        await _begun(connection, running, limit)
        await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            connection.idle_done()
        async with asyncio.timeout(limit):
            response = await running
    except TimeoutError:
        raise connection.fail(TimedOut(connection.endpoint, "IDLE", limit)) from None
    except asyncio.CancelledError:
        close(connection)
        raise
    finally:
        for event in events:
            event.cancel()
    if response.result == LOST:
        raise connection.fail(ConnectionLost(connection.endpoint, ""))
    if response.result != "OK":
        raise CommandRefused(connection.endpoint, "IDLE", said(bytes(response.lines[-1])))
    return wake is not None and wake.is_set()


async def _begun(
    connection: Connection, running: "asyncio.Future[aioimaplib.Response]", limit: float
) -> None:
    """Wait until the server says that it idles: a DONE before that would be a bad command."""
    told = asyncio.ensure_future(connection.wait_for_idle_response())
    try:
        done, _ = await asyncio.wait(
            {told, running}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        told.cancel()
    if not done:
        raise TimeoutError
