"""Mails: listed, fetched in batches and in pieces, searched, added; and never changed."""

import asyncio
from datetime import UTC, datetime

import aioimaplib
import pytest

from mailroom import imap
from mailroom.imap.protocol import Connection
from tests.imap.between import Between, Deed
from tests.imap.conftest import User
from tests.imap.scripted import scripted
from tests.local.mail import logged_in

WHEN = datetime(2024, 2, 29, 12, 30, 59, tzinfo=UTC)


def mail(number: int, size: int = 0) -> bytes:
    return (
        b"Subject: %d\r\nMessage-ID: <m%d@x.test>\r\n\r\nbody (\r\n" % (number, number)
        + b"x" * size
    )


async def fill(connection: imap.Connection, count: int) -> list[bytes]:
    mails = [mail(number) for number in range(count)]
    for one in mails:
        await imap.append(connection, "INBOX", one, flags=(), date=WHEN)
    await imap.examine(connection, "INBOX")
    return mails


async def test_a_mail_is_listed_with_size_date_and_flags(connection: imap.Connection) -> None:
    await imap.append(connection, "INBOX", mail(1), flags=("\\Flagged", "mine"), date=WHEN)
    await imap.examine(connection, "INBOX")
    assert await imap.list_mails(connection, [1]) == [
        imap.Listed(1, len(mail(1)), WHEN, ("\\Flagged", "mine"))
    ]


async def test_bodies_come_as_they_are(connection: imap.Connection) -> None:
    mails = await fill(connection, 3)
    fetched = await imap.fetch_bodies(connection, [1, 2, 3], sum(map(len, mails)))
    assert fetched == {1: mails[0], 2: mails[1], 3: mails[2]}


async def test_an_empty_mail_and_one_of_all_bytes_come_as_they_are(
    connection: imap.Connection,
) -> None:
    # Dovecot completes a bare LF to CR LF when it stores a mail.
    odd = bytes(set(range(1, 256)) - {10}) + b"\r\n) A1 OK (\r\n* 1 EXPUNGE\r\n{5}\r\n"
    await imap.append(connection, "INBOX", b"\r\n")
    await imap.append(connection, "INBOX", odd)
    await imap.examine(connection, "INBOX")
    assert await imap.fetch_bodies(connection, [1, 2], 0) == {1: b"\r\n", 2: odd}


async def test_a_mail_that_vanished_is_left_out_without_error(
    user: User, connection: imap.Connection
) -> None:
    mails = await fill(connection, 3)
    with logged_in(user.servers, user.address) as client:
        client.select("INBOX")
        client.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
        client.expunge()
    fetched = await imap.fetch_bodies(connection, [1, 2, 3], 0)
    assert fetched == {1: mails[0], 3: mails[2]}
    assert [one.uid for one in await imap.list_mails(connection, [1, 2, 3])] == [1, 3]


async def test_it_is_told_which_mails_exist_and_which_were_removed_meanwhile(
    user: User, connection: imap.Connection
) -> None:
    await fill(connection, 2)
    with logged_in(user.servers, user.address) as client:
        client.select("INBOX")
        client.store("1", "+FLAGS", "(\\Deleted)")
        client.expunge()
    assert await imap.existing(connection, [1, 2, 9]) == [2]
    assert await imap.existing(connection, []) == []


async def test_nothing_that_reads_changes_a_mail(user: User, connection: imap.Connection) -> None:
    await fill(connection, 2)
    await imap.list_mails(connection, [1, 2])
    await imap.fetch_bodies(connection, [1, 2], 0)
    _ = [piece async for piece in imap.fetch_pieces(connection, 1, 0)]
    with logged_in(user.servers, user.address) as client:
        client.select("INBOX", readonly=True)
        assert client.uid("SEARCH", "UNSEEN")[1] == [b"1 2"]


async def test_bodies_of_a_selected_folder_stay_unseen_too(
    user: User, connection: imap.Connection
) -> None:
    await fill(connection, 1)
    await imap.select(connection, "INBOX")
    await imap.fetch_bodies(connection, [1], 0)
    with logged_in(user.servers, user.address) as client:
        client.select("INBOX", readonly=True)
        assert client.uid("SEARCH", "UNSEEN")[1] == [b"1"]


async def test_more_bodies_than_a_batch_are_refused(connection: imap.Connection) -> None:
    with pytest.raises(ValueError, match="51 bodies at once"):
        await imap.fetch_bodies(connection, list(range(1, 52)), 0)


@pytest.mark.parametrize("size", [0, imap.PIECE - 100, imap.PIECE, 3 * imap.PIECE + 17])
async def test_a_large_mail_comes_in_pieces(connection: imap.Connection, size: int) -> None:
    large = mail(1, size)
    await imap.append(connection, "INBOX", large)
    await imap.examine(connection, "INBOX")
    pieces = [piece async for piece in imap.fetch_pieces(connection, 1, len(large))]
    assert max(map(len, pieces)) <= imap.PIECE
    assert b"".join(pieces) == large


async def test_a_wrong_size_neither_cuts_nor_stops_a_mail(connection: imap.Connection) -> None:
    large = mail(1, imap.PIECE + 10)
    await imap.append(connection, "INBOX", large)
    await imap.examine(connection, "INBOX")
    for told in (0, len(large) * 2):
        pieces = [piece async for piece in imap.fetch_pieces(connection, 1, told)]
        assert b"".join(pieces) == large


async def test_a_mail_without_end_is_not_read_for_ever(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailroom.imap.messages.LARGEST_MAIL", 3 * imap.PIECE)
    head = b"* 1 FETCH (UID 1 BODY[]<0> {%d}\r\n" % imap.PIECE
    piece = head + b"x" * imap.PIECE + b")\r\nTAG OK done\r\n"
    async with scripted({b"FETCH": piece}) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 5)
        await imap.examine(connected, "INBOX")
        with pytest.raises(imap.AnswerUnreadable, match="a mail of more than 3145728 bytes"):
            _ = [piece async for piece in imap.fetch_pieces(connected, 1, 10)]
        imap.close(connected)


@pytest.mark.parametrize("length", [1, 2, 7])
async def test_lines_and_literals_are_the_same_in_the_smallest_pieces(length: int) -> None:
    taken = Connection("mail.example.com:143", 5)
    taken.data_received(b"* OK hello\r\n")
    taken.pending_sync_command = asked = aioimaplib.Command("FETCH", "A1")
    sent = b"* 1 FETCH (BODY[] {8}\r\na\r\nb\r\n\r\n UID 1)\r\n* 7 EXISTS\r\n* 2 FETCH (UID 2)\r\n"
    for start in range(0, len(sent), length):
        taken.data_received(sent[start : start + length])
    lines = [bytes(line) for line in asked.response.lines]
    assert lines == [
        b"1 FETCH (BODY[] {8}", b"a\r\nb\r\n\r\n", b" UID 1)", b"7 EXISTS", b"2 FETCH (UID 2)"
    ]  # fmt: skip
    assert (taken.exists, taken.failure) == (7, None)


async def test_a_mail_that_is_gone_is_told_and_the_connection_lives(
    connection: imap.Connection,
) -> None:
    await fill(connection, 1)
    with pytest.raises(imap.MailGone, match="mail with UID 9 is gone"):
        _ = [piece async for piece in imap.fetch_pieces(connection, 9, 1)]
    assert await imap.search_uids(connection) == [1]


async def test_uids_are_found_from_a_first_one_on(connection: imap.Connection) -> None:
    await fill(connection, 3)
    assert await imap.search_uids(connection) == [1, 2, 3]
    assert await imap.search_uids(connection, 3) == [3]
    # `4:*` alone would name the last mail, 3.
    assert await imap.search_uids(connection, 4) == []


async def test_uids_are_found_by_position(connection: imap.Connection) -> None:
    await fill(connection, 4)
    assert await imap.uids_at(connection, 2, 3) == [2, 3]


async def test_a_mail_is_found_by_its_message_id(connection: imap.Connection) -> None:
    await fill(connection, 3)
    assert await imap.search_header(connection, "Message-ID", "<m1@x.test>") == [2]
    assert await imap.search_header(connection, "Message-ID", "<m9@x.test>") == []


async def test_an_added_mail_has_the_flags_and_date_that_were_given(
    user: User, connection: imap.Connection
) -> None:
    await imap.append(connection, "Sent", mail(1), date=WHEN)
    with logged_in(user.servers, user.address) as client:
        client.select("Sent", readonly=True)
        told = client.uid("FETCH", "1", "(FLAGS INTERNALDATE)")[1][0]
    assert isinstance(told, bytes)
    assert b"\\Seen" in told
    assert b"29-Feb-2024 12:30:59 +0000" in told


async def test_adding_to_a_missing_folder_says_that_it_is_missing(
    connection: imap.Connection,
) -> None:
    with pytest.raises(imap.FolderMissing):
        await imap.append(connection, "Nowhere", mail(1))
    await imap.create_folder(connection, "Nowhere")
    assert await imap.append(connection, "Nowhere", mail(1)) is not None


async def test_a_thousand_mails_are_listed(user: User) -> None:
    """Default overridden: aioimaplib recurses for each line, and the caller of so many hung."""
    count = 1000
    lines = b"".join(
        b'* %d FETCH (UID %d RFC822.SIZE 9 INTERNALDATE "01-Jan-2024 00:00:00 +0000" FLAGS ())\r\n'
        % (number, number)
        for number in range(1, count + 1)
    )
    async with scripted({b"FETCH": lines + b"TAG OK done\r\n"}) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 5)
        await imap.examine(connected, "INBOX")
        listed = await imap.list_mails(connected, list(range(1, count + 1)))
        imap.close(connected)
    assert [one.uid for one in listed] == list(range(1, count + 1))


async def test_a_broken_parenthesis_does_not_spoil_the_next_answer(user: User) -> None:
    """The library counts parentheses, and would take all that follows for the same answer."""
    answers = {
        b"FETCH": b'* 1 FETCH (UID 1 BODY[] "a ( b")\r\nTAG OK done\r\n',
        b"SEARCH": b"* SEARCH 1\r\nTAG OK done\r\n",
    }
    async with scripted(answers) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 2)
        await imap.examine(connected, "INBOX")
        assert await imap.fetch_bodies(connected, [1], 0) == {1: b"a ( b"}
        assert await imap.search_uids(connected) == [1]
        imap.close(connected)


@pytest.mark.parametrize(
    "answer",
    [
        b"* 1 FETCH (UID 1 BODY[] {99999999999}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {abc}\r\nZ9 OK not yours\r\n",
        b"* 1 FETCH (UID 1 FLAGS ())\r\nZ9 OK not yours\r\n",
    ],
)
async def test_what_no_server_may_say_ends_the_connection_and_not_the_process(
    user: User, answer: bytes
) -> None:
    async with scripted({b"FETCH": answer}) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 1)
        await imap.examine(connected, "INBOX")
        with pytest.raises(imap.AnswerUnreadable):
            await imap.fetch_bodies(connected, [1], 0)
        assert connected.transport.is_closing()


async def test_a_lost_connection_ends_the_command_at_once(
    watched: imap.Connection, middle: Between
) -> None:
    """The library would wait for ever: it does not tell its commands that nothing will come."""
    await imap.examine(watched, "INBOX")
    middle.rule = lambda line: Deed.CUT if b"SEARCH" in line else None
    began = watched.loop.time()
    with pytest.raises(imap.ConnectionLost):
        await imap.search_uids(watched)
    assert watched.loop.time() - began < watched.limit / 2


async def test_a_command_without_an_answer_times_out_and_ends_the_connection(
    watched: imap.Connection, middle: Between
) -> None:
    await imap.examine(watched, "INBOX")
    watched.limit = 0.3
    middle.rule = lambda line: Deed.SWALLOW if b"SEARCH" in line else None
    with pytest.raises(imap.TimedOut, match="no answer to UID SEARCH within 0 s"):
        await imap.search_uids(watched)
    # Its late answer would be taken for the next command's.
    with pytest.raises(imap.TimedOut):
        await imap.examine(watched, "INBOX")


async def test_a_body_that_stalls_is_given_up_however_large_it_is(user: User) -> None:
    async with scripted({b"FETCH": b"* 1 FETCH (UID 1 BODY[] {100000}\r\nSubject"}) as server:
        connected = await imap.connect(user.login(port=server.port, tls="none"), user.context, 0.5)
        await imap.examine(connected, "INBOX")
        with pytest.raises(imap.TimedOut):
            async with asyncio.timeout(3):
                await imap.fetch_bodies(connected, [1], 100_000_000)
