"""What IMAP and aioimaplib do if nobody says otherwise, and that we say otherwise.

docs/decisions/defaults-we-override.md lists all of them.
"""

import asyncio

import aioimaplib
import pytest

from deploy import local
from mailroom import imap
from tests.imap.between import Between
from tests.imap.conftest import User
from tests.imap.test_messages import mail
from tests.local.mail import PASSWORD, logged_in
from tests.waiting import until


async def test_a_mail_that_we_read_stays_unread_where_a_plain_fetch_would_mark_it(
    user: User, connection: imap.Connection
) -> None:
    """Default overridden: BODY[] sets \\Seen; only BODY.PEEK[] does not (RFC 3501, 6.4.5)."""
    for number in (1, 2):
        await imap.append(connection, "INBOX", mail(number), flags=())
    await imap.select(connection, "INBOX")
    await imap.fetch_bodies(connection, [1], 0)
    _ = [piece async for piece in imap.fetch_pieces(connection, 1, 0)]
    host, port = "localhost", user.servers.dovecot.imaps
    by_default = aioimaplib.IMAP4_SSL(host, port, ssl_context=user.context)
    await by_default.wait_hello_from_server()
    await by_default.login(user.address, PASSWORD)
    await by_default.select("INBOX")
    await by_default.uid("fetch", "2", "(BODY[])")
    await by_default.logout()
    with logged_in(user.servers, user.address) as client:
        client.select("INBOX", readonly=True)
        assert client.uid("SEARCH", "UNSEEN")[1] == [b"1"]


async def test_a_command_ends_with_its_connection_where_aioimaplib_lets_it_wait(
    user: User, watched: imap.Connection, middle: Between, dovecot: local.Servers
) -> None:
    """Default overridden: aioimaplib tells a lost connection to a callback, and to no command."""
    loop = asyncio.get_running_loop()
    lost = asyncio.Event()
    by_default = aioimaplib.IMAP4ClientProtocol(loop, lambda _: lost.set())
    await loop.create_connection(lambda: by_default, dovecot.dovecot.host, middle.port)
    await by_default.wait("NONAUTH")
    middle.silent = True
    waits = asyncio.ensure_future(by_default.simple_command("NOOP"))
    ours = asyncio.ensure_future(imap.list_folders(watched))
    await until(lambda: sum(b"NOOP" in line or b"LIST" in line for line in middle.lines) == 2)
    middle.cut()
    with pytest.raises(imap.ConnectionLost):
        await ours
    await asyncio.wait_for(lost.wait(), 10)
    assert not waits.done()
    waits.cancel()
