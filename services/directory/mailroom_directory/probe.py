"""Logs in to an account's servers as fetcher and sender will, and says what is found there.

Invariant: nothing is changed on a server and no mail is sent; a password goes only where the
account may send it: over verified TLS, or over plain text inside this machine.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from mailroom import imap, smtp
from mailroom.directory import Folder
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
    access = imap.Login(login.host, login.port, login.tls, login.user, password.get_secret_value())
    try:
        client = await smtp.connect(access, context, helo="", limit=LIMIT)
    except smtp.NotConnected as failed:
        return [Finding("problem", failed.problem)]
    takes = client.esmtp_extensions.get("size", "")
    await smtp.end(client)
    return [Finding("ok", f"logged in as {login.user}{_size(takes)}")]


def _size(parameter: str) -> str:
    """The limit that SIZE tells (RFC 1870 section 3); 0 and nothing mean that it tells none."""
    limit = int(parameter) if parameter.isascii() and parameter.isdigit() else 0
    return f"; takes mails of up to {limit / 1_000_000:.0f} MB" if limit else ""
