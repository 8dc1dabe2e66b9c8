"""The sender is killed between any two of its steps: each mail leaves once, or is shown unknown."""

import asyncio
from datetime import timedelta
from signal import SIGKILL

import pytest

from tests.sender.office import Office, to
from tests.waiting import until

MINUTE = timedelta(minutes=1)
BEFORE_THE_OUTCOME = {"sender.sending_committed": 1, "sender.data_answered": 2}
"""Crashpoints, and how many mails arrive when it is sent again."""
AFTER_THE_OUTCOME = [
    "sender.copy_appended",
    pytest.param("sender.outcome_committed", marks=pytest.mark.matrix),
    pytest.param("sender.copies_committed", marks=pytest.mark.matrix),
]


async def killed_at(office: Office, crashpoint: str) -> None:
    async with office.process(MAILROOM_CRASHPOINT=crashpoint) as running:
        assert await asyncio.wait_for(running.wait(), 30) == -SIGKILL


@pytest.mark.parametrize(("crashpoint", "arrived"), BEFORE_THE_OUTCOME.items())
async def test_killed_around_data_it_is_sent_again_and_told_as_maybe_twice(
    served: Office, crashpoint: str, arrived: int
) -> None:
    anna = served.mailbox()
    key = await served.ask(to=to(anna))
    await killed_at(served, crashpoint)
    assert (await served.row(key))["state"] == "sending"
    async with served.process():
        row = await served.tried(key, 1, within=30)
        assert (row["state"], row["unknowns"]) == ("accepted", 1)
        served.move_clock(2 * MINUTE)
        await served.gets(anna, arrived)
        await until(lambda: served.has_told("mail.filed", 1), within=20)
    (sent,) = await served.told("mail.sent")
    assert sent["maybe_twice"]
    assert {mail["Message-ID"] for mail in await served.mails(anna)} == {f"<{sent['message_id']}>"}
    assert len(await served.mails(served.address, "Sent")) == 1


async def test_killed_after_data_it_is_held_where_the_account_says_so(served: Office) -> None:
    anna = served.mailbox()
    await served.change_account(unknown="hold")
    key = await served.ask(to=to(anna))
    await killed_at(served, "sender.data_answered")
    async with served.process():
        await served.is_in(key, "unknown", within=30)
    (failed,) = await served.told("mail.failed")
    assert failed["reason"] == "unknown"
    assert len(await served.mails(anna)) == 1


@pytest.mark.parametrize("crashpoint", AFTER_THE_OUTCOME)
async def test_killed_after_its_outcome_was_stored_it_is_sent_once_and_filed_once(
    served: Office, crashpoint: str
) -> None:
    anna = served.mailbox()
    await served.ask(to=to(anna))
    await killed_at(served, crashpoint)
    async with served.process():
        await until(lambda: served.has_told("mail.filed", 1), within=30)
    (sent,) = await served.told("mail.sent")
    assert not sent["maybe_twice"]
    assert len(await served.mails(anna)) == 1
    assert len(await served.mails(served.address, "Sent")) == 1


async def test_killed_again_after_it_was_found_unknown_it_is_unknown_once(served: Office) -> None:
    anna = served.mailbox()
    key = await served.ask(to=to(anna))
    await killed_at(served, "sender.data_answered")
    await killed_at(served, "sender.recovered")
    row = await served.row(key)
    assert (row["state"], row["tries"], row["unknowns"]) == ("accepted", 1, 1)
    async with served.process():
        served.move_clock(2 * MINUTE)
        await served.gets(anna, 2, within=30)
        row = await served.is_in(key, "sent")
    assert (row["tries"], row["unknowns"]) == (2, 1)


async def test_killed_after_a_refused_try_was_stored_it_is_counted_once(served: Office) -> None:
    key = await served.ask(to=to("tempfail@example.com"))
    await killed_at(served, "sender.try_committed")
    assert (await served.row(key))["tries"] == 1
    served.move_clock(2 * MINUTE)
    async with served.process():
        row = await served.tried(key, 2, within=30)
    assert (row["state"], row["unknowns"]) == ("accepted", 0)
    assert [each["outcome"] for each in await served.attempts(key)] == ["refused", "refused"]


async def test_killed_while_a_server_that_is_away_is_left_alone_it_is_sent_once_when_it_is_back(
    served: Office,
) -> None:
    anna, postfix = served.mailbox(), served.servers.postfix
    await served.set_server("smtp", (postfix.host, served.free_port(), "implicit"))
    key = await served.ask(to=to(anna))
    await killed_at(served, "sender.rest_committed")
    assert (await served.row(key))["tries"] == 0
    await served.set_server("smtp", (postfix.host, postfix.submissions, "implicit"))
    served.move_clock(2 * MINUTE)
    async with served.process():
        await served.gets(anna, 1, within=30)
        row = await served.is_in(key, "sent")
    assert (row["tries"], row["unknowns"]) == (1, 0)


async def test_killed_after_the_sent_folder_was_made_the_copy_lies_there_once(
    served: Office,
) -> None:
    await served.change_account(sent_folder="Gesendet")
    await served.ask(to=to(served.mailbox()))
    await killed_at(served, "sender.folder_created")
    assert await served.mails(served.address, "Gesendet") == []
    async with served.process():
        await until(lambda: served.has_told("mail.filed", 1), within=30)
    assert len(await served.mails(served.address, "Gesendet")) == 1


async def test_killed_after_a_copy_was_put_off_it_is_filed_once_when_the_server_is_back(
    served: Office,
) -> None:
    dovecot = served.servers.dovecot
    await served.set_server("imap", (dovecot.host, served.free_port(), "implicit"))
    key = await served.ask(to=to(served.mailbox()))
    await killed_at(served, "sender.copies_put_off")
    await served.copy_tried(key, 1)
    await served.set_server("imap", (dovecot.host, dovecot.imaps, "implicit"))
    served.move_clock(2 * MINUTE)
    async with served.process():
        await until(lambda: served.has_told("mail.filed", 1), within=30)
    assert len(await served.mails(served.address, "Sent")) == 1
