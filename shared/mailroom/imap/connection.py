"""Connecting, logging in, and the one way a command is sent.

Invariant: a password leaves this machine over verified TLS only; over plain text it goes to a
loopback address or nowhere. Every command ends within its time limit; a connection on which one
did not end, or was cancelled, is closed, for its answer could be taken for the next one's.
"""

import asyncio
import asyncio.sslproto
import ssl
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Literal

import aioimaplib

from mailroom import tls
from mailroom.imap.failures import (
    AnswerUnreadable,
    CommandRefused,
    ConnectionLost,
    HostUnknown,
    LoginDisabled,
    LoginRefused,
    LoginUnavailable,
    PlaintextRefused,
    StartTlsMissing,
    TimedOut,
    connect_failure,
    said,
)
from mailroom.imap.names import quoted
from mailroom.imap.protocol import LOST, Connection

LIMIT = 30.0
"""Seconds that a server has for an answer."""
SLOWEST = 32 * 1024
"""Bytes a second that a server must bring or take, beside its time for an answer."""

# asyncio keeps a buffer of this size for each TLS connection: 256 KiB by default, which would be
# half a gigabyte for 2,000 idle accounts. A TLS record is 16 KiB at most (RFC 8446 section 5.1).
asyncio.sslproto.SSLProtocol.max_size = 16 * 1024

_SASL_PLAIN = {"AUTH=PLAIN", "SASL-IR"}

Line = bytes | bytearray
"""A line of an answer, or (bytearray) a literal that follows it."""


@dataclass(frozen=True)
class Login:
    """Where and as whom to log in. `tls` none is refused off the loopback."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    user: str
    password: str = field(repr=False)

    @property
    def endpoint(self) -> str:
        """host:port, as failures name it."""
        return f"{self.host}:{self.port}"


async def connect(login: Login, context: ssl.SSLContext, limit: float = LIMIT) -> Connection:
    """A connection that is logged in. End it with `logout`, or `close` when in trouble.

    `context` is `mailroom.tls.client_context(…)`. Raises ImapFailure of the class that fits.
    """
    connection = await _greeted(login, context, limit)
    try:
        await _capability(connection)
        if login.tls == "starttls":
            await _start_tls(connection, login, context)
        await _log_in(connection, login)
        await _capability(connection)  # many a server tells all it can only now
        if {"ENABLE", "CONDSTORE"} <= connection.capabilities:
            # Before the first SELECT, or never (RFC 7162 section 3.1); whether it works shows in
            # HIGHESTMODSEQ alone: some servers answer nothing here.
            await command(connection, "ENABLE", "CONDSTORE", answers="ENABLED")
    except BaseException:
        close(connection)
        raise
    return connection


async def logout(connection: Connection) -> None:
    """End a connection politely, whatever state it is in. Raises nothing of a lost one."""
    try:
        if connection.failure is None:
            connection.limit = min(connection.limit, 5.0)
            await command(connection, "LOGOUT")
    except (ConnectionLost, TimedOut, CommandRefused):
        return  # it is gone, which is what was wanted
    finally:
        close(connection)


def close(connection: Connection) -> None:
    """End a connection at once, without a word to the server."""
    connection.fail(ConnectionLost(connection.endpoint, "closed by us"))


def can_idle(connection: Connection) -> bool:
    """Whether the server has IDLE (RFC 2177)."""
    return "IDLE" in connection.capabilities


async def command(
    connection: Connection,
    name: str,
    *arguments: str,
    answers: str = "",
    by_uid: bool = False,
    size: int = 0,
    stalls: bool = False,
) -> list[Line]:
    """Send a command; the lines of its answer, the last one its tagged text.

    It may take the connection's limit, and more by the `size` in bytes that it moves; with `stalls`
    it also ends when nothing comes for that limit. `answers` names the untagged response that
    belongs to it, where that is not `name`. Raises CommandRefused for NO and BAD, TimedOut,
    ConnectionLost, or what else ended the connection.
    """
    if connection.failure is not None:
        raise connection.failure
    seconds = connection.limit + size / SLOWEST
    prefix = "UID" if by_uid else ""
    try:
        async with asyncio.timeout(seconds):
            response = await connection.execute(
                aioimaplib.Command(
                    name,
                    connection.new_tag(),
                    *arguments,
                    prefix=prefix,
                    untagged_resp_name=answers,
                    loop=connection.loop,
                    timeout=connection.limit if stalls else None,
                )
            )
    except (TimeoutError, aioimaplib.CommandTimeout):
        late = TimedOut(connection.endpoint, f"{prefix} {name}".strip(), seconds)
        raise connection.fail(late) from None
    except asyncio.CancelledError:
        close(connection)
        raise
    except aioimaplib.AioImapException as misused:
        # Not chained: the library's messages quote whole commands, passwords with them.
        raise AnswerUnreadable(connection.endpoint, f"{name}: {type(misused).__name__}") from None
    return _answer(connection, name, response)


def _answer(connection: Connection, name: str, response: aioimaplib.Response) -> list[Line]:
    lines: list[Line] = response.lines
    if response.result == LOST:
        raise connection.fail(ConnectionLost(connection.endpoint, ""))
    if response.result != "OK":
        raise CommandRefused(connection.endpoint, name, said(bytes(lines[-1])))
    return lines


async def _greeted(login: Login, context: ssl.SSLContext, limit: float) -> Connection:
    if login.tls == "none" and not tls.is_loopback(login.host):
        raise PlaintextRefused(login.endpoint)
    implicit = login.tls == "implicit"
    connection = Connection(login.endpoint, limit)
    try:
        async with asyncio.timeout(limit):
            await connection.loop.create_connection(
                lambda: connection,
                login.host,
                login.port,
                ssl=context if implicit else None,
                server_hostname=login.host if implicit else None,
                happy_eyeballs_delay=0.25,  # else a host with a dead IPv6 address costs the limit
            )
            greeting = await connection.greeting
    except TimeoutError:
        close(connection)
        raise TimedOut(login.endpoint, "the connection", limit) from None
    except OSError as error:
        raise connect_failure(login.endpoint, error) from None
    except UnicodeError:  # a name that IDNA cannot encode
        raise HostUnknown(login.endpoint) from None
    except asyncio.CancelledError:
        close(connection)
        raise
    if connection.failure is not None:
        raise connection.failure
    return _accept(connection, greeting, login)


def _accept(connection: Connection, greeting: bytes, login: Login) -> Connection:
    """Read the greeting (RFC 3501 section 7.1). PREAUTH is refused: it would skip STARTTLS."""
    if login.tls == "none":
        peer = connection.transport.get_extra_info("peername")
        if not tls.is_loopback(str(peer[0])):
            close(connection)
            raise PlaintextRefused(login.endpoint)
    if not greeting.upper().startswith(b"* OK"):
        close(connection)
        if greeting.upper().startswith(b"* BYE"):
            raise ConnectionLost(login.endpoint, f"the server says: {said(greeting[2:])}")
        raise AnswerUnreadable(login.endpoint, f"greeting {said(greeting)!r}")
    connection.state = aioimaplib.NONAUTH
    return connection


async def _start_tls(connection: Connection, login: Login, context: ssl.SSLContext) -> None:
    """STARTTLS (RFC 3501 section 6.2.1); what came in plain text before is forgotten."""
    if "STARTTLS" not in connection.capabilities:
        raise StartTlsMissing(login.endpoint)
    await command(connection, "STARTTLS")
    if connection.incomplete_line or connection.current_command is not None:
        # Text injected behind the answer would be read as if it had come through TLS.
        raise AnswerUnreadable(login.endpoint, "plain text after STARTTLS")
    try:
        async with asyncio.timeout(connection.limit):
            connection.transport = await connection.loop.start_tls(
                connection.transport, connection, context, server_hostname=login.host
            )
    except TimeoutError:
        raise TimedOut(login.endpoint, "STARTTLS", connection.limit) from None
    except OSError as error:
        raise connect_failure(login.endpoint, error) from None
    connection.capabilities = set()
    await _capability(connection)


async def _log_in(connection: Connection, login: Login) -> None:
    if "LOGINDISABLED" in connection.capabilities:
        raise LoginDisabled(login.endpoint)
    user, password = quoted("user", login.user), quoted("password", login.password)
    plain = b64encode(f"\0{login.user}\0{login.password}".encode()).decode("ascii")
    try:
        if (user + password).isascii() or not connection.capabilities >= _SASL_PLAIN:
            await command(connection, "LOGIN", user, password)
        else:  # a quoted string is ASCII; many servers take UTF-8 there, but not all
            await command(connection, "AUTHENTICATE", "PLAIN", plain)
    except CommandRefused as refused:
        if "[UNAVAILABLE]" in refused.answer.upper():
            raise LoginUnavailable(login.endpoint, refused.answer) from None
        raise LoginRefused(login.endpoint, login.user, refused.answer) from None
    connection.state = aioimaplib.AUTH


async def _capability(connection: Connection) -> None:
    told: set[str] = set()
    for line in (await command(connection, "CAPABILITY"))[:-1]:
        # Interned: thousands of connections hold the same forty words.
        told.update(map(sys.intern, line.decode("ascii", "replace").upper().split()))
    connection.capabilities = told
