"""Folders: listing them with their use, opening, creating."""

import pytest

from mailroom import imap
from tests.imap.between import Between
from tests.imap.conftest import User
from tests.local.mail import logged_in


async def test_folders_are_listed_with_their_use(connection: imap.Connection) -> None:
    listed = {folder.name: folder.use for folder in await imap.list_folders(connection)}
    assert listed == {
        "INBOX": "inbox",
        "Sent": "sent",
        "Drafts": "drafts",
        "Junk": "junk",
        "Trash": "trash",
    }


async def test_the_use_of_folders_is_asked_for(watched: imap.Connection, middle: Between) -> None:
    """Dovecot tells it unasked; other servers need not (RFC 6154 section 2)."""
    await imap.list_folders(watched)
    assert middle.lines[-1].endswith(b'LIST "" "*" RETURN (SPECIAL-USE)')


@pytest.mark.parametrize("name", ["Entwürfe & mehr", "a* b", 'with "quotes"', "日本/語", "Ünï/x"])
async def test_a_folder_of_any_name_is_created_listed_and_opened(
    connection: imap.Connection, name: str
) -> None:
    await imap.create_folder(connection, name)
    assert name in {folder.name for folder in await imap.list_folders(connection)}
    assert (await imap.examine(connection, name)).name == name


async def test_a_created_folder_is_shown_by_other_mail_programs(
    user: User, connection: imap.Connection
) -> None:
    await imap.create_folder(connection, "Projects")
    with logged_in(user.servers, user.address) as client:
        assert any(b"Projects" in line for line in client.lsub()[1] if isinstance(line, bytes))


async def test_a_folder_that_is_there_is_not_created_again(connection: imap.Connection) -> None:
    await imap.create_folder(connection, "Mine")
    with pytest.raises(imap.FolderExists, match="'Mine' exists already"):
        await imap.create_folder(connection, "Mine")


async def test_a_missing_folder_is_told_and_the_connection_lives(
    connection: imap.Connection,
) -> None:
    with pytest.raises(imap.FolderMissing, match="no folder 'Nowhere'"):
        await imap.examine(connection, "Nowhere")
    assert (await imap.examine(connection, "INBOX")).exists == 0


async def test_control_characters_never_reach_the_server(connection: imap.Connection) -> None:
    with pytest.raises(imap.ControlCharacter):
        await imap.create_folder(connection, "x\r\nA9 DELETE Sent")
    assert "Sent" in {folder.name for folder in await imap.list_folders(connection)}


async def test_an_opened_folder_tells_its_numbering(connection: imap.Connection) -> None:
    before = await imap.examine(connection, "INBOX")
    assert await imap.append(connection, "INBOX", b"Subject: x\r\n\r\n") == (before.uidvalidity, 1)
    after = await imap.examine(connection, "INBOX")
    assert (before.uidnext, before.exists, after.uidnext, after.exists) == (1, 0, 2, 1)
    assert after.uidvalidity == before.uidvalidity
    # CONDSTORE must be enabled before the first folder is opened: only then is this told.
    assert after.highestmodseq is not None
    assert after.highestmodseq > (before.highestmodseq or 0)


def test_sent_mail_goes_to_the_chosen_folder_or_the_servers_or_sent() -> None:
    listed = [imap.ListedFolder("INBOX", "inbox"), imap.ListedFolder("Gesendet", "sent")]
    assert imap.sent_folder(listed, "Mine") == "Mine"
    assert imap.sent_folder(listed) == "Gesendet"
    assert imap.sent_folder(listed[:1]) == "Sent"
