"""Logging in to an SMTP server (RFC 5321, 4954), in the same way for who sends and for who tries.

Invariant: a password goes over verified TLS, or stays inside this machine; it is told once, by one
method. What is wrong is said in the words of `mailroom.imap`, where it is the same.
"""

import asyncio
import re
import socket
import ssl
from contextlib import suppress

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from mailroom import tls
from mailroom.imap import (
    ConnectionLost,
    ImapFailure,
    Login,
    LoginDisabled,
    LoginRefused,
    LoginUnavailable,
    PlaintextRefused,
    StartTlsMissing,
    connect_failure,
)

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\uf900-\uffff]+")


class NotConnected(Exception):
    """No connection, no TLS or no login: the server never heard of a mail."""

    def __init__(self, problem: str, code: int | None = None, *, is_refusal: bool = False) -> None:
        self.problem, self.code = problem, code
        self.is_refusal = is_refusal
        """The server heard user and password, and refused them for good."""
        super().__init__(problem)


def said(text: str) -> str:
    """What a server said, fit to be stored and shown: one line, printable, 500 characters."""
    return _UNPRINTABLE.sub(" ", text).strip()[:500]


async def connect(login: Login, context: ssl.SSLContext, helo: str, limit: float) -> SMTP:
    """A connection that is logged in, where `login` names a user. Raises NotConnected.

    `limit` is in seconds, for each answer. An empty `helo` takes this machine's name.
    """
    client = SMTP(
        hostname=login.host,
        port=login.port,
        use_tls=login.tls == "implicit",
        # By default TLS is used if the server offers it: whoever cuts the offer out reads along.
        start_tls=False,
        tls_context=context,
        # By default it asks DNS for this machine's name, which may take its time.
        local_hostname=helo or socket.gethostname(),
        timeout=limit,
    )
    try:
        if login.tls == "none" and not tls.is_loopback(login.host):
            raise PlaintextRefused(login.endpoint)
        await client.connect()
        if login.tls == "starttls":
            await _start_tls(client, login)
        if login.user:
            await _log_in(client, login)
    except (SMTPException, ImapFailure, OSError) as failed:
        abort(client)
        raise _not_connected(login, failed, limit) from None
    except asyncio.CancelledError:
        abort(client)
        raise
    return client


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


async def _start_tls(client: SMTP, login: Login) -> None:
    await client.ehlo()
    if not client.supports_extension("starttls"):
        raise StartTlsMissing(login.endpoint)
    await client.starttls()


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
        raise LoginDisabled(login.endpoint)


def _not_connected(login: Login, failed: Exception, limit: float) -> NotConnected:
    """What is wrong, for a person. aiosmtplib keeps the system's own error as the cause."""
    endpoint = login.endpoint
    match failed:
        case SMTPAuthenticationError(code=code) if code >= 500:
            words = str(LoginRefused(endpoint, login.user, said(failed.message)))
            return NotConnected(words, code, is_refusal=True)
        case SMTPAuthenticationError(code=code):
            # RFC 4954 section 6: 454 is the server's own trouble, and says nothing of the password.
            return NotConnected(str(LoginUnavailable(endpoint, said(failed.message))), code)
        case SMTPResponseException(code=code):
            words = f"{endpoint}: the server says: {code} {said(failed.message)}"
            return NotConnected(words, code)
        case SMTPTimeoutError():
            return NotConnected(f"{endpoint}: timed out: no answer within {limit:g} s")
        case ImapFailure():
            return NotConnected(str(failed))
    return NotConnected(_broken(endpoint, failed))


def _broken(endpoint: str, failed: Exception) -> str:
    for error in (failed, failed.__cause__):
        if isinstance(error, SMTPServerDisconnected):
            return str(ConnectionLost(endpoint, ""))
        if isinstance(error, OSError) and not isinstance(error, SMTPException):
            return str(connect_failure(endpoint, error))
    return f"{endpoint}: {said(str(failed.args[0] if failed.args else failed))}"
