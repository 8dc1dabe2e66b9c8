"""Logs in to an account's servers as fetcher and sender will, and says what is found there.

Invariant: nothing is changed on a server and no mail is sent; a password goes only where the
account may send it: over verified TLS, or over plain text inside this machine.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPResponseException,
    SMTPTimeoutError,
)
from pydantic import SecretStr

from mailroom import imap, tls
from mailroom.directory import Folder
from mailroom.imap.failures import said
from mailroom_directory import findings
from mailroom_directory.findings import Finding
from mailroom_directory.server_urls import Login

LIMIT = 20.0
"""Seconds that a server has for each answer."""


@dataclass(frozen=True)
class Wanted:
    """What the account wants of its IMAP server beside a login."""

    folders: Sequence[Folder] = ()
    sent: Literal["append", "server"] = "append"
    sent_folder: str | None = None
    idle: bool = True


async def imap_server(
    login: Login, password: SecretStr, context: ssl.SSLContext, wanted: Wanted
) -> list[Finding]:
    """Log in to IMAP, look at the folders, log out."""
    access = imap.Login(login.host, login.port, login.tls, login.user, password.get_secret_value())
    try:
        connection = await imap.connect(access, context, LIMIT)
        listed = await imap.list_folders(connection)
        idles = imap.can_idle(connection)
        await imap.logout(connection)
    except imap.ImapFailure as failed:
        return [Finding("problem", str(failed))]
    found = [Finding("ok", f"logged in as {login.user}")]
    if wanted.idle and not idles:
        found.append(Finding("note", "no IDLE: new mail is found by interval or calendar"))
    copies = imap.sent_folder(listed, wanted.sent_folder) if wanted.sent == "append" else None
    uses = {folder.name: folder.use for folder in listed}
    return found + findings.of_folders(uses, wanted.folders, copies)


async def smtp_server(login: Login, password: SecretStr, context: ssl.SSLContext) -> list[Finding]:
    """Log in to SMTP, log out."""
    endpoint = f"{login.host}:{login.port}"
    client = SMTP(
        hostname=login.host,
        port=login.port,
        use_tls=login.tls == "implicit",
        # By default TLS is used if the server offers it: whoever cuts the offer out reads along.
        start_tls=False,
        tls_context=context,
        local_hostname=socket.gethostname(),
        timeout=LIMIT,
    )
    try:
        await client.connect()
        await _secure(client, login, endpoint)
        await _log_in(client, login, password)
        takes = client.esmtp_extensions.get("size", "")
        await client.quit()
    except imap.ImapFailure as failed:
        return [Finding("problem", str(failed))]
    except (SMTPException, OSError) as failed:
        return [Finding("problem", str(_failure(endpoint, login, failed)))]
    finally:
        client.close()
    return [Finding("ok", f"logged in as {login.user}{_size(takes)}")]


def _size(parameter: str) -> str:
    """The limit that SIZE tells (RFC 1870 section 3); 0 and nothing mean that it tells none."""
    limit = int(parameter) if parameter.isascii() and parameter.isdigit() else 0
    return f"; takes mails of up to {limit / 1_000_000:.0f} MB" if limit else ""


def _said(failed: SMTPException) -> str:
    return said(str(failed.message).encode())


async def _secure(client: SMTP, login: Login, endpoint: str) -> None:
    await client.ehlo()
    if login.tls == "starttls":
        if not client.supports_extension("starttls"):
            raise imap.StartTlsMissing(endpoint)
        await client.starttls()
        await client.ehlo()
    peer = client.get_transport_info("peername")
    if login.tls == "none" and not tls.is_loopback(str(peer[0])):
        raise imap.PlaintextRefused(endpoint)


async def _log_in(client: SMTP, login: Login, password: SecretStr) -> None:
    # SMTP.login tries every method: a wrong password would count several times over there.
    ways = {
        "plain": client.auth_plain,
        "login": client.auth_login,
        "cram-md5": client.auth_crammd5,
    }
    for way, authenticate in ways.items():
        if way in client.server_auth_methods:
            await authenticate(login.user, password.get_secret_value())
            return
    raise imap.LoginDisabled(f"{login.host}:{login.port}")


def _failure(endpoint: str, login: Login, failed: SMTPException | OSError) -> imap.ImapFailure:
    match failed:
        case SMTPAuthenticationError(code=code) if code >= 500:
            return imap.LoginRefused(endpoint, login.user, _said(failed))
        case SMTPAuthenticationError():
            return imap.LoginUnavailable(endpoint, _said(failed))
        case SMTPResponseException():
            return imap.ConnectionLost(endpoint, f"the server says: {_said(failed)}")
        case SMTPTimeoutError() | TimeoutError():
            return imap.TimedOut(endpoint, "us", LIMIT)
    cause = failed.__cause__ if isinstance(failed, SMTPException) else failed
    if isinstance(cause, OSError) and not isinstance(cause, SMTPException):
        return imap.connect_failure(endpoint, cause)
    return imap.ConnectionLost(endpoint, str(failed))
