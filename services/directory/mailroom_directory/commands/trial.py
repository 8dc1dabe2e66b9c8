"""Trying an account's logins: before a password is sealed, and for `mailroom account test`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mailroom import settings, tls
from mailroom.directory.model import Folder
from mailroom.printing import one_line
from mailroom_directory import probe
from mailroom_directory.accounts import AccountSettings
from mailroom_directory.commands.passwords import Passwords
from mailroom_directory.fields import FieldRefused
from mailroom_directory.findings import Finding
from mailroom_directory.server_urls import Login, url_of


@dataclass(frozen=True)
class Tried:
    """A login that was tried, and what was found there."""

    login: Login
    found: Sequence[Finding]


async def attempt(
    logins: Sequence[Login],
    passwords: Passwords,
    account: AccountSettings,
    folders: Sequence[Folder],
) -> list[Tried]:
    """Log in everywhere, at the same time."""
    context = tls.client_context(settings.load(settings.CommonSettings).tls_ca_file)
    wanted = probe.Wanted(folders, account.sent, account.sent_folder, idle=account.idle)
    found = await asyncio.gather(
        *(
            probe.imap_server(login, passwords["imap"], context, wanted)
            if login.protocol == "imap"
            else probe.smtp_server(login, passwords["smtp"], context)
            for login in logins
        )
    )
    return [Tried(login, result) for login, result in zip(logins, found, strict=True)]


def lines(tried: Sequence[Tried]) -> list[str]:
    """All that was found, for people."""
    told = []
    for one in tried:
        told.append(url_of(one.login))
        told += [f"  {finding.level:<7}  {one_line(finding.text)}" for finding in one.found]
    return told


def notes(tried: Sequence[Tried]) -> list[str]:
    """What a person should know though nothing is wrong."""
    return [
        one_line(finding.text) for one in tried for finding in one.found if finding.level == "note"
    ]


def insist(tried: Sequence[Tried], otherwise: str = "") -> None:
    """Raise FieldRefused for the first login that has a problem; `otherwise` ends its remedy."""
    for one in tried:
        problems = [one_line(finding.text) for finding in one.found if finding.level == "problem"]
        if problems:
            remedy = "; ".join(problems) + otherwise
            raise FieldRefused(f"--{one.login.protocol}", url_of(one.login), remedy)
