"""Folders: which there are, what each is for, and opening one.

Invariant: `examine` is how mail is read: the server then cannot change a flag of it (RFC 3501
section 6.3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import aioimaplib

from mailroom.imap import responses
from mailroom.imap.connection import command
from mailroom.imap.failures import AnswerUnreadable, CommandRefused, FolderExists, FolderMissing
from mailroom.imap.names import decode_folder, quoted_folder
from mailroom.imap.protocol import Connection

Use = Literal["inbox", "sent", "junk", "archive", "drafts", "trash", "all", "flagged", "none"]
"""What a folder is for: INBOX, a special use of RFC 6154, or none."""

_USES: dict[str, Use] = {
    "\\sent": "sent",
    "\\junk": "junk",
    "\\archive": "archive",
    "\\drafts": "drafts",
    "\\trash": "trash",
    "\\all": "all",
    "\\flagged": "flagged",
}


@dataclass(frozen=True)
class ListedFolder:
    """A folder that can be opened. `name` is decoded; `all` holds copies of every other."""

    name: str
    use: Use


@dataclass(frozen=True)
class Opened:
    """A folder as it was when it was opened."""

    name: str
    uidvalidity: int
    uidnext: int | None
    """The UID that the next mail will have at least; None where the server does not tell."""
    exists: int
    """Mails in it."""
    highestmodseq: int | None
    """Grows with each change (RFC 7162); None where the server has no CONDSTORE."""


async def list_folders(connection: Connection) -> list[ListedFolder]:
    """All folders that can be opened, in the server's order."""
    arguments = ['""', '"*"']
    if {"LIST-EXTENDED", "SPECIAL-USE"} <= connection.capabilities:
        arguments.append("RETURN (SPECIAL-USE)")
    lines = await command(connection, "LIST", *arguments)
    folders = []
    for attributes, coded in responses.listed(lines):
        if attributes & {"\\noselect", "\\nonexistent"}:
            continue
        name = decode_folder(coded.decode("utf-8", "replace"))
        if name.upper() == "INBOX":
            folders.append(ListedFolder("INBOX", "inbox"))
            continue
        uses = [use for attribute, use in _USES.items() if attribute in attributes]
        folders.append(ListedFolder(name, uses[0] if uses else "none"))
    return folders


def sent_folder(folders: Sequence[ListedFolder], chosen: str | None = None) -> str:
    """The folder for copies of sent mail: the chosen one, the server's \\Sent, or "Sent"."""
    if chosen is not None:
        return chosen
    return next((folder.name for folder in folders if folder.use == "sent"), "Sent")


async def examine(connection: Connection, folder: str) -> Opened:
    """Open a folder for reading only. Raises FolderMissing."""
    return await _open(connection, "EXAMINE", folder)


async def select(connection: Connection, folder: str) -> Opened:
    """Open a folder for reading and writing. Raises FolderMissing."""
    return await _open(connection, "SELECT", folder)


async def _open(connection: Connection, how: str, folder: str) -> Opened:
    connection.folder, connection.exists = "", 0
    try:
        lines = await command(connection, how, quoted_folder(folder))
    except CommandRefused as refused:
        raise FolderMissing(connection.endpoint, folder, refused.answer) from None
    connection.state = aioimaplib.SELECTED  # the library knows it of SELECT alone
    connection.folder = folder
    connection.news.clear()
    told = responses.codes(lines)
    if "UIDVALIDITY" not in told:
        raise AnswerUnreadable(connection.endpoint, f"{how} without UIDVALIDITY")
    return Opened(
        name=folder,
        uidvalidity=told["UIDVALIDITY"],
        uidnext=told.get("UIDNEXT"),
        exists=connection.exists,
        highestmodseq=told.get("HIGHESTMODSEQ") or None,
    )


async def create_folder(connection: Connection, folder: str) -> None:
    """Create a folder and subscribe to it, so that other mail programs show it.

    Raises FolderExists, CommandRefused.
    """
    try:
        await command(connection, "CREATE", quoted_folder(folder))
    except CommandRefused as refused:
        if "[ALREADYEXISTS]" in refused.answer.upper():
            raise FolderExists(connection.endpoint, folder) from None
        raise
    await command(connection, "SUBSCRIBE", quoted_folder(folder))
