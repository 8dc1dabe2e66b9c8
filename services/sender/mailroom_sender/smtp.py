"""SMTP (RFC 5321), step by step: the one place that speaks to aiosmtplib.

Invariant: before `deliver` nothing was sent, whatever went wrong; after its reply it is known what
became of the mail; between the two nobody knows, and `NoAnswer` says so. A mail goes out by
aiosmtplib's own DATA alone, which makes every line end CR LF and doubles leading dots: nothing in
a body can end it early (SMTP smuggling).
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from mailroom import tls
from mailroom.crashpoints import crashpoint
from mailroom.imap import Login, PlaintextRefused, connect_failure
from mailroom_sender.outcomes import Reply

CLOSING = 421
"""The server closes the connection (RFC 5321 section 3.8): said of it, not of this mail."""

_AN_END = 64
"""Bytes: the line that ends DATA is among so many last ones, encrypted or not."""
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\uf900-\uffff]+")


class NotConnected(Exception):
    """No connection, no TLS or no login: the server never heard of a mail."""

    def __init__(self, problem: str, code: int | None = None, *, is_refusal: bool = False) -> None:
        self.problem, self.code = problem, code
        self.is_refusal = is_refusal
        """The server heard user and password, and refused them for good."""
        super().__init__(problem)


class Lost(Exception):
    """The connection ended before DATA: the server has forgotten the mail (RFC 5321, 4.1.1.4)."""

    def __init__(self, problem: str, code: int | None = None) -> None:
        self.problem, self.code = problem, code
        super().__init__(problem)


class NoAnswer(Exception):
    """DATA began, and its reply did not come, or says nothing: the mail may have left."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class BrokenOff(Exception):
    """DATA was broken off before its end had left this process: the server must forget the mail.

    A connection that closes early cancels what it was about (RFC 5321 section 4.1.1.10).
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def said(text: str) -> str:
    """What a server said, fit to be stored and shown: one line, printable, 500 characters."""
    return _UNPRINTABLE.sub(" ", text).strip()[:500]


async def connect(login: Login, context: ssl.SSLContext, helo: str, limit: float) -> SMTP:
    """A connection that is logged in, where `login` names a user. Raises NotConnected.

    `limit` is in seconds, for each answer.
    """
    if login.tls == "none" and not tls.is_loopback(login.host):
        raise NotConnected(str(PlaintextRefused(login.endpoint)))
    client = SMTP(
        hostname=login.host,
        port=login.port,
        use_tls=login.tls == "implicit",
        # By default TLS is used if the server offers it: whoever cuts the offer out reads along.
        start_tls=login.tls == "starttls",
        tls_context=context,
        # By default it asks DNS for this machine's name, which may take its time.
        local_hostname=helo or socket.gethostname(),
        timeout=limit,
    )
    try:
        await client.connect()
        if login.user:
            await _log_in(client, login)
    except SMTPAuthenticationError as refused:
        # RFC 4954 section 6: 454 is the server's own trouble, and says nothing of the password.
        for_good = refused.code >= 500
        wrong = f"wrong user or password for {login.user}"
        why = wrong if for_good else "login is not possible just now"
        problem = f"{login.endpoint}: {why}; the server says: {said(refused.message)}"
        abort(client)
        raise NotConnected(problem, refused.code, is_refusal=for_good) from None
    except SMTPResponseException as refused:
        problem = f"{login.endpoint}: the server says: {refused.code} {said(refused.message)}"
        raise _not_connected(client, problem, refused.code) from None
    except SMTPTimeoutError:
        problem = f"{login.endpoint}: timed out: no answer within {limit:g} s"
        raise _not_connected(client, problem) from None
    except (SMTPException, OSError) as failed:
        raise _not_connected(client, _words(login, failed)) from None
    except asyncio.CancelledError:
        abort(client)
        raise
    return client


async def offer(
    client: SMTP, sender: str, recipients: Iterable[str], mail: bytes
) -> dict[str, Reply]:
    """MAIL, and RCPT for each recipient: what the server says of each.

    A refusal of MAIL is said of each of them. Raises Lost.
    """
    options = [f"SIZE={len(mail)}"] if client.supports_extension("size") else []
    if not mail.isascii() and client.supports_extension("8bitmime"):
        options.append("BODY=8BITMIME")
    replies: dict[str, Reply] = {}
    try:
        try:
            await client.mail(sender, options=options)
        except SMTPSenderRefused as refused:
            reply = _unless_closing(client, refused)
            return dict.fromkeys(recipients, reply)
        crashpoint("sender.mail_answered")
        for address in recipients:
            try:
                response = await client.rcpt(address)
                replies[address] = Reply(response.code, said(response.message))
            except SMTPRecipientRefused as refused:
                replies[address] = _unless_closing(client, refused)
    except SMTPException as failed:
        abort(client)
        raise Lost(f"connection lost before DATA: {said(str(failed.message))}") from None
    crashpoint("sender.recipients_answered")
    return replies


async def deliver(client: SMTP, mail: bytes, limit: float) -> Reply:
    """DATA: give the mail to the recipients who were accepted. `limit` is in seconds.

    Raises NoAnswer. When cancelled, what has not left this process does not leave any more; if the
    end of the mail is among it, BrokenOff is raised instead of CancelledError.
    """
    try:
        # The limit is not the library's: asyncio.wait_for, by which it waits, swallows a
        # cancellation that comes together with an answer (Python before 3.12), and goes on.
        async with asyncio.timeout(limit):
            response = await client.data(mail, timeout=None)
    except SMTPDataError as refused:
        if 400 <= refused.code < 600:
            return _reply(refused)
        abort(client)
        raise NoAnswer(f"the server answered DATA with {refused.code}") from None
    except SMTPException as failed:
        abort(client)
        raise NoAnswer(f"no answer to DATA: {said(str(failed.message))}") from None
    except TimeoutError:
        abort(client)
        raise NoAnswer(f"no answer to DATA within {limit:g} s") from None
    except asyncio.CancelledError:
        rest = _unsent(client)
        abort(client)
        if rest >= _AN_END:
            raise BrokenOff(f"broken off with {rest} bytes still to send") from None
        raise
    return Reply(response.code, said(response.message))


async def forget(client: SMTP) -> None:
    """RSET: drop what was offered, and keep the connection; or lose it."""
    try:
        await client.rset()
    except SMTPException:
        abort(client)


async def end(client: SMTP) -> None:
    """QUIT, and whatever the server says, the connection is closed within seconds."""
    with suppress(SMTPException, TimeoutError):
        async with asyncio.timeout(2):
            await client.quit()
    abort(client)


def abort(client: SMTP) -> None:
    """Close at once. `close` alone would first send what is still buffered, a mail's end too."""
    if isinstance(client.transport, asyncio.WriteTransport):
        client.transport.abort()
    client.close()


def _unsent(client: SMTP) -> int:
    """Bytes that the system has not taken yet. Under TLS asyncio shows those before encryption."""
    shown = client.transport
    beneath = getattr(getattr(shown, "_ssl_protocol", None), "_transport", None)
    transports = [one for one in (shown, beneath) if isinstance(one, asyncio.WriteTransport)]
    return sum(one.get_write_buffer_size() for one in transports)


async def _log_in(client: SMTP, login: Login) -> None:
    """By one method. `SMTP.login` tries all, and a wrong password counts three times over there."""
    await client.ehlo()
    offered = client.server_auth_methods
    if "plain" in offered:
        await client.auth_plain(login.user, login.password)
    elif "login" in offered:
        await client.auth_login(login.user, login.password)
    elif "cram-md5" in offered:
        await client.auth_crammd5(login.user, login.password)
    else:
        raise SMTPException("the server offers no login with user and password here")


def _words(login: Login, failed: Exception) -> str:
    """What is wrong, for a person. aiosmtplib keeps the system's own error as the cause."""
    for error in (failed, failed.__cause__):
        if isinstance(error, SMTPServerDisconnected):
            return f"{login.endpoint}: connection lost: the server closed it"
        if isinstance(error, OSError) and not isinstance(error, SMTPException):
            return str(connect_failure(login.endpoint, error))
    return f"{login.endpoint}: {said(str(failed.args[0] if failed.args else failed))}"


def _not_connected(client: SMTP, problem: str, code: int | None = None) -> NotConnected:
    abort(client)
    return NotConnected(problem, code)


def _unless_closing(client: SMTP, refused: SMTPResponseException) -> Reply:
    if refused.code == CLOSING:
        abort(client)
        raise Lost(f"the server closes the connection: {said(refused.message)}", CLOSING)
    return _reply(refused)


def _reply(refused: SMTPResponseException) -> Reply:
    return Reply(refused.code, said(refused.message))
