"""The copy of what was sent lies once in the account's Sent folder, and never sends again."""

import asyncio
import imaplib
import sys
import time
from asyncio.subprocess import Process
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from signal import SIGCONT

from mailroom import clock
from tests.imap.between import Between, Deed, Rule, between, forward
from tests.local.mail import PASSWORD, logged_in
from tests.sender.office import Office, to
from tests.waiting import until

MINUTE = timedelta(minutes=1)


async def test_the_copy_is_seen_and_dated_when_it_was_sent(office: Office) -> None:
    office.move_clock(timedelta(days=-30))
    async with office.sending():
        await office.ask(to=to(office.mailbox()))
        sent = await office.tells("mail.sent")
        filed = await office.tells("mail.filed")
    listed = await asyncio.to_thread(_listed, office, "Sent")
    assert b"\\Seen" in listed
    date = imaplib.Internaldate2tuple(listed)
    assert date
    sent_at = datetime.fromisoformat(sent["sent_at"])
    assert time.mktime(date) == int(sent_at.timestamp())
    assert filed["uidvalidity"] > 0


async def test_the_chosen_folder_is_created_if_it_is_missing(office: Office) -> None:
    await office.change_account(sent_folder="Büro/Gesendet")
    async with office.sending():
        await office.ask(to=to(office.mailbox()))
        filed = await office.tells("mail.filed")
    assert filed["folder"] == "Büro/Gesendet"
    assert len(await office.mails(office.address, "B&APw-ro/Gesendet")) == 1


async def test_while_imap_is_away_mail_is_sent_and_its_copy_follows(office: Office) -> None:
    anna, port, dovecot = office.mailbox(), office.free_port(), office.servers.dovecot
    await office.set_server("imap", ("127.0.0.1", port, "implicit"))
    async with office.sending():
        key = await office.ask(to=to(anna))
        await office.tells("mail.sent")
        copy = await until(lambda: office.copy_tried(key, 1))
        assert "connection refused" in copy["problem"]
        await office.set_server("imap", (dovecot.host, dovecot.imaps, "implicit"))
        office.move_clock(2 * MINUTE)
        await office.tells("mail.filed")
    assert len(await office.mails(anna)) == 1
    assert len(await office.told("mail.sent")) == 1
    assert len(await office.mails(office.address, "Sent")) == 1


async def test_an_append_whose_answer_was_lost_is_not_made_again(office: Office) -> None:
    dovecot = office.servers.dovecot
    async with between(dovecot.host, dovecot.imap) as middle:
        await office.set_server("imap", ("127.0.0.1", middle.port, "none"))
        middle.rule = fall_silent_after_append(middle)
        async with office.sending():
            key = await office.ask(to=to(office.mailbox()))
            await until(lambda: office.has_mails(office.address, "Sent", 1))
            middle.rule, middle.silent = forward, False
            middle.cut()
            await until(lambda: office.copy_tried(key, 1))
            assert await office.told("mail.filed") == []
            office.move_clock(2 * MINUTE)
            filed = await office.tells("mail.filed")
    assert filed["uid"] == 1
    assert len(await office.mails(office.address, "Sent")) == 1


async def test_a_folder_that_cannot_be_opened_just_now_gets_no_second_copy(office: Office) -> None:
    dovecot = office.servers.dovecot
    async with between(dovecot.host, dovecot.imap) as middle:
        await office.set_server("imap", ("127.0.0.1", middle.port, "none"))
        middle.rule = fall_silent_after_append(middle)
        async with office.sending():
            key = await office.ask(to=to(office.mailbox()))
            await until(lambda: office.has_mails(office.address, "Sent", 1))
            middle.rule, middle.silent = refuse_to_open, False
            middle.cut()
            await until(lambda: office.copy_tried(key, 1))
            office.move_clock(2 * MINUTE)
            await until(lambda: office.copy_tried(key, 2))
            middle.rule = forward
            office.move_clock(20 * MINUTE)
            filed = await office.tells("mail.filed")
    assert filed["uid"] == 1
    assert len(await office.mails(office.address, "Sent")) == 1


def refuse_to_open(line: bytes) -> bytes | None:
    unavailable = b"TAG NO [UNAVAILABLE] Try again later.\r\n"
    return unavailable if b" EXAMINE " in line else None


async def test_where_the_server_files_it_we_only_look_for_it(office: Office) -> None:
    await office.change_account(sent="server")
    async with office.sending():
        key = await office.ask(to=to(office.mailbox()))
        sent = await office.tells("mail.sent")
        copy = await until(lambda: office.copy_tried(key, 1))
        assert "not filed it yet" in copy["problem"]
        assert await office.mails(office.address, "Sent") == []
        # The server gives it another Message-ID: our header knows it.
        await asyncio.to_thread(_file, office, sent["mail"])
        office.move_clock(2 * MINUTE)
        filed = await office.tells("mail.filed")
    assert (filed["folder"], filed["uid"]) == ("Sent", 1)


async def test_a_copy_is_given_up_after_a_month_and_the_mail_stays_sent(office: Office) -> None:
    await office.set_server("imap", ("127.0.0.1", office.free_port(), "implicit"))
    async with office.sending():
        key = await office.ask(to=to(office.mailbox()))
        await until(lambda: office.copy_tried(key, 1))
        office.move_clock(timedelta(days=31))
        await until(lambda: office.copy_is(key, "given_up"))
    assert (await office.row(key))["state"] == "sent"


async def test_who_is_stopped_within_a_batch_records_what_lies_there(office: Office) -> None:
    dovecot = office.servers.dovecot
    await office.set_server("imap", ("127.0.0.1", office.free_port(), "none"))
    async with office.sending():
        keys = [await office.ask(to=to(office.mailbox())) for _ in range(2)]
        await until(lambda: office.has_told("mail.sent", 2))
    office.move_clock(2 * MINUTE)
    async with between(dovecot.host, dovecot.imap) as middle:
        await office.set_server("imap", ("127.0.0.1", middle.port, "none"))
        middle.rule = swallow_the_second_append(middle)
        async with office.sending():
            await until(lambda: appends(middle) == 2)
    states = sorted([(await office.copy(key))["state"] for key in keys])
    assert states == ["due", "filed"]


async def test_who_was_frozen_within_a_batch_appends_no_more_of_it(served: Office) -> None:
    await _are_to_be_filed(served, 3)
    dovecot = served.servers.dovecot
    frozen_there = {
        "MAILROOM_CRASHPOINT": "sender.copy_appended",
        "MAILROOM_CRASHPOINT_SIGNAL": "SIGSTOP",
    }
    async with between(dovecot.host, dovecot.imap) as middle:
        await served.set_server("imap", ("127.0.0.1", middle.port, "none"))
        # By itself: who called a fork of it would not be frozen.
        async with served.process(sys.executable, "-m", "mailroom", **frozen_there) as process:
            await until(lambda: is_frozen(process), within=30)
            await served.set_server("imap", (dovecot.host, dovecot.imaps, "implicit"))
            async with served.sending(lease_seconds=2):
                await until(lambda: served.has_told("mail.filed", 3), within=30)
                process.send_signal(SIGCONT)
                # It has noticed, and is done with the batch.
                await until(lambda: is_left(middle), within=30)
    assert appends(middle) == 1
    assert len(await served.mails(served.address, "Sent")) == 3
    assert len(await served.told("mail.filed")) == 3


async def test_who_cannot_renew_the_lease_appends_no_more_once_another_can_have_it(
    office: Office,
) -> None:
    await _are_to_be_filed(office, 2)
    dovecot = office.servers.dovecot
    async with between(dovecot.host, dovecot.imap) as middle:
        await office.set_server("imap", ("127.0.0.1", middle.port, "none"))
        middle.rule = swallow_the_second_append(middle)
        async with office.sending():
            await until(lambda: appends(middle) == 2)
            async with office.locked_leases():
                await until(lambda: is_left(middle))
                # What lies there is recorded all the same.
                await until(lambda: office.has_told("mail.filed", 1))
            middle.rule = forward
            await until(lambda: office.has_told("mail.filed", 2))
    assert len(await office.mails(office.address, "Sent")) == 2


async def test_an_account_without_imap_files_nothing(office: Office) -> None:
    await office.remove_server("imap")
    async with office.sending():
        key = await office.ask(to=to(office.mailbox()))
        copy = await until(lambda: office.copy_is(key, "given_up"))
    assert "no IMAP server" in copy["problem"]


async def _are_to_be_filed(office: Office, count: int) -> None:
    """Send mails, and let nobody file their copies yet."""
    for _ in range(count):
        await office.ask(to=to(office.mailbox()))
    await office.take_lease("file")
    async with office.sending(lease_seconds=60):
        await until(lambda: office.has_told("mail.sent", count))


def is_frozen(process: Process) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def is_left(middle: Between) -> bool:
    return all(one.is_closing() for one in middle.streams)


def appends(middle: Between) -> int:
    return sum(b" APPEND " in line for line in middle.lines)


def swallow_the_second_append(middle: Between) -> Rule:
    """The server does not hear of it, and nobody answers."""
    return lambda _: Deed.SWALLOW if appends(middle) == 2 else None


def fall_silent_after_append(middle: Between) -> Rule:
    """The server has all of the command, and its answer does not come through."""
    left = None

    def fall_silent() -> None:
        middle.silent = True

    def rule(line: bytes) -> None:
        nonlocal left
        if left is not None:
            left -= len(line) + 2
            if left <= 0:
                # Once this line was passed on.
                asyncio.get_running_loop().call_soon(fall_silent)
        elif b" APPEND " in line:
            left = int(line.rpartition(b"{")[2].rstrip(b"}"))

    return rule


def _listed(office: Office, folder: str) -> bytes:
    with logged_in(office.servers, office.address) as imap:
        imap.select(folder, readonly=True)
        said = imap.fetch("1", "(INTERNALDATE FLAGS)")[1][0]
    assert isinstance(said, bytes)
    return said


def _file(office: Office, mail: str) -> None:
    message = EmailMessage()
    message["Message-ID"] = "<rewritten@relay.example>"
    message["X-Mailroom-Mail"] = mail
    message.set_content("as the server filed it")
    with logged_in(office.servers, office.address, PASSWORD) as imap:
        imap.append("Sent", "", clock.now().timestamp(), message.as_bytes())
