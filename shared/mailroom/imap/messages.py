"""Mails of the open folder: their UIDs, sizes and dates, their bytes; and adding one.

Invariant: nothing here changes a mail or its flags: bodies are asked for with BODY.PEEK
(RFC 3501 section 6.4.5). No answer is larger than a batch: bodies come 50 and 8 MB at a time,
larger mails in pieces.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import aioimaplib

from mailroom.imap import responses
from mailroom.imap.connection import command
from mailroom.imap.failures import AnswerUnreadable, CommandRefused, FolderMissing, MailGone
from mailroom.imap.listing import BODIES, Listed
from mailroom.imap.names import quoted, quoted_folder, uid_set
from mailroom.imap.protocol import Connection

PIECE = 1024 * 1024
"""Bytes of a piece."""
LARGEST_MAIL = 256 * 1024 * 1024
"""Bytes. Providers take a fifth of it; a server that never comes to an end would fill the disk."""
LISTED = 200
"""Mails a listing command: one line each."""


async def search_uids(connection: Connection, first: int = 1) -> list[int]:
    """UIDs of the open folder, `first` and all above, ascending.

    Never asks for UNSEEN: another client may have read a mail before us.
    """
    lines = await command(connection, "SEARCH", "UID", f"{first}:*", by_uid=True)
    # `n:*` names the last mail even when its UID is below n (RFC 3501 section 6.4.8).
    return [uid for uid in responses.searched(lines) if uid >= first]


async def uids_at(connection: Connection, first: int, last: int) -> list[int]:
    """UIDs of the mails at positions `first` to `last` of the open folder, ascending.

    Positions count from 1, oldest first, to `connection.exists`. An expunge moves later mails down
    by one, so who walks through a folder from its end downwards misses none.
    """
    lines = await command(connection, "SEARCH", f"{first}:{last}", by_uid=True)
    return responses.searched(lines)


async def existing(connection: Connection, uids: Sequence[int]) -> list[int]:
    """Those of these UIDs that the open folder still has, ascending."""
    if not uids:
        return []
    # Gives the server leave to forget what was removed meanwhile (RFC 3501 section 7.4.1).
    await command(connection, "NOOP")
    lines = await command(connection, "SEARCH", "UID", uid_set(uids), by_uid=True)
    return sorted(set(responses.searched(lines)) & set(uids))


async def search_header(connection: Connection, header: str, value: str) -> list[int]:
    """UIDs of mails in the open folder whose header holds `value` (ASCII), ascending."""
    wanted = quoted(f"header {header}", value)
    lines = await command(connection, "SEARCH", "HEADER", header, wanted, by_uid=True)
    return responses.searched(lines)


async def list_mails(connection: Connection, uids: Sequence[int]) -> list[Listed]:
    """Sizes, internal dates and flags, by UID. Mails that vanished are left out, without error."""
    found: dict[int, Listed] = {}
    for start in range(0, len(uids), LISTED):
        lines = await command(
            connection,
            "FETCH",
            uid_set(uids[start : start + LISTED]),
            "(UID RFC822.SIZE INTERNALDATE FLAGS)",
            by_uid=True,
        )
        for text, _ in responses.fetched(lines):
            uid, size = responses.number(text, "UID"), responses.number(text, "RFC822.SIZE")
            if uid is not None and size is not None:
                date, flags = responses.internal_date(text), responses.flags(text)
                found[uid] = Listed(uid, size, date, flags)
    return [found[uid] for uid in sorted(found.keys() & set(uids))]


async def fetch_bodies(
    connection: Connection, uids: Sequence[int], expected: int
) -> dict[int, bytes]:
    """The mails as they are, by UID; `expected` is their size together, in bytes.

    At most BODIES and BATCH_BYTES at once. A UID that vanished, or that the server would not
    deliver, is missing from the answer, without error.
    """
    if len(uids) > BODIES:
        raise ValueError(f"{len(uids)} bodies at once: {BODIES} at most")
    lines = await command(
        connection,
        "FETCH",
        uid_set(uids),
        "(UID BODY.PEEK[])",
        by_uid=True,
        size=expected,
        stalls=True,
    )
    bodies: dict[int, bytes] = {}
    for text, literal in responses.fetched(lines):
        uid, body = responses.number(text, "UID"), responses.body(text, literal)
        if uid is not None and body is not None:
            bodies[uid] = body
    return {uid: bodies[uid] for uid in uids if uid in bodies}


async def fetch_pieces(connection: Connection, uid: int, size: int) -> AsyncIterator[bytes]:
    """One mail, a piece of PIECE bytes at a time; `size` is what the server listed.

    Ends where the server has no more, whatever it said of the size. Raises MailGone when the mail
    is removed meanwhile, AnswerUnreadable when it has no end.
    """
    offset = 0
    while True:
        piece = await _piece(connection, uid, offset)
        if piece:
            yield piece
        offset += len(piece)
        if not piece or (len(piece) < PIECE and offset >= size):
            return
        if offset > LARGEST_MAIL:
            told = f"a mail of more than {LARGEST_MAIL} bytes, of which {size} were listed"
            raise AnswerUnreadable(connection.endpoint, told)


async def _piece(connection: Connection, uid: int, offset: int) -> bytes:
    lines = await command(
        connection,
        "FETCH",
        str(uid),
        f"(UID BODY.PEEK[]<{offset}.{PIECE}>)",
        by_uid=True,
        size=PIECE,
        stalls=True,
    )
    for text, literal in responses.fetched(lines):
        body = responses.body(text, literal)
        if responses.number(text, "UID") == uid and body is not None:
            if len(body) > PIECE:
                raise AnswerUnreadable(connection.endpoint, f"{len(body)} bytes for {PIECE}")
            return body
    raise MailGone(connection.endpoint, uid)


async def append(
    connection: Connection,
    folder: str,
    mail: bytes,
    flags: Sequence[str] = ("\\Seen",),
    date: datetime | None = None,
) -> tuple[int, int] | None:
    """Add a mail to a folder; its (UIDVALIDITY, UID) where the server tells (RFC 4315).

    `date` (aware) becomes its internal date. Raises FolderMissing where the folder is to be
    created first ([TRYCREATE]), else CommandRefused.
    """
    arguments = [quoted_folder(folder), f"({' '.join(flags)})"]
    if date is not None:
        arguments.append(aioimaplib.time2internaldate(date))
    connection.literal_data = mail
    try:
        lines = await command(
            connection,
            "APPEND",
            *arguments,
            f"{{{len(mail)}}}",
            size=len(mail),
        )
    except CommandRefused as refused:
        if "[TRYCREATE]" in refused.answer.upper():
            raise FolderMissing(connection.endpoint, folder, refused.answer) from None
        raise
    return responses.append_uid(lines)
