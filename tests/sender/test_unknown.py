"""Nobody knows whether it left: sent again or held, as the account says, and never silently."""

import asyncio
from datetime import timedelta

from tests.sender.office import Office, to
from tests.sender.wire import AtEnd
from tests.waiting import until

MINUTE = timedelta(minutes=1)


async def test_cut_between_data_and_its_answer_it_is_sent_again_and_told_as_maybe_twice(
    office: Office,
) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_AFTER
        async with office.sending():
            key = await office.ask(to=to(anna))
            row = await office.tried(key, 1)
            assert (row["state"], row["unknowns"]) == ("accepted", 1)
            (attempt,) = await office.attempts(key)
            assert attempt["outcome"] == "unknown"
            assert await office.told("mail.sent") == []
            wire.at_end = AtEnd.PASS
            office.move_clock(2 * MINUTE)
            sent = await office.tells("mail.sent")
            one, other = await office.gets(anna, 2)
    assert sent["maybe_twice"]
    assert one["Message-ID"] == other["Message-ID"]
    assert one["X-Mailroom-Mail"] == other["X-Mailroom-Mail"] == sent["mail"]


async def test_cut_before_the_last_line_nothing_leaves_twice(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_BEFORE
        async with office.sending():
            key = await office.ask(to=to(anna))
            await office.tried(key, 1)
            wire.at_end = AtEnd.PASS
            office.move_clock(2 * MINUTE)
            await office.is_in(key, "sent")
            await office.gets(anna, 1)


async def test_where_the_account_holds_it_waits_for_a_person(office: Office) -> None:
    anna = office.mailbox()
    await office.change_account(unknown="hold")
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_AFTER
        async with office.sending():
            key = await office.ask(to=to(anna))
            row = await office.is_in(key, "unknown")
            failed = await office.tells("mail.failed")
            office.move_clock(timedelta(days=4))
            await office.ask(to=to("permfail@example.com"))
            await until(lambda: office.has_told("mail.failed", 2))
    assert (failed["reason"], row["due"]) == ("unknown", None)
    assert [one["address"] for one in failed["refused"]] == [anna]
    assert (await office.row(key))["state"] == "unknown"
    assert len(await office.mails(anna)) == 1


async def test_a_mail_whose_answer_never_comes_is_held_after_three_tries(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_AFTER
        async with office.sending():
            key = await office.ask(to=to(anna))
            for tries in (1, 2):
                await office.tried(key, tries)
                office.move_clock(10 * MINUTE)
            await office.is_in(key, "unknown")
    assert len(wire.mails) == 3


async def test_a_slow_server_is_waited_for_only_as_long_as_the_setting_says(
    office: Office,
) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD
        async with office.sending(data_seconds=0.5):
            key = await office.ask(to=to(anna))
            await office.tried(key, 1)
    (attempt,) = await office.attempts(key)
    assert attempt["outcome"] == "unknown"


async def test_a_stop_in_the_middle_of_data_waits_for_the_answer(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD
        key = await office.ask(to=to(anna))
        async with office.sending():
            await wire.ended.wait()
            asyncio.get_running_loop().call_later(0.3, wire.let_go.set)
        row = await office.row(key)
    assert (row["state"], row["unknowns"]) == ("sent", 0)


async def test_a_stop_before_the_end_of_a_long_data_is_known_not_to_have_sent_it(
    office: Office,
) -> None:
    anna = office.mailbox()
    film = await office.upload(bytes(15_000_000))
    file = {"filename": "film", "type": "video/mp4", "object": film}
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.STALL
        key = await office.ask(to=to(anna), attachments=[file])
        async with office.sending():
            await wire.ended.wait()
        row = await office.row(key)
    assert (row["state"], row["unknowns"], row["tries"]) == ("accepted", 0, 1)
    (attempt,) = await office.attempts(key)
    assert attempt["outcome"] == "unreachable"
    assert "still to send" in attempt["reply"]


async def test_an_outcome_is_stored_though_all_connections_to_the_database_broke(
    office: Office,
) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD
        async with office.sending():
            key = await office.ask(to=to(anna))
            await wire.ended.wait()
            await office.break_database_connections()
            wire.let_go.set()
            row = await office.is_in(key, "sent")
    assert row["unknowns"] == 0
    assert len(await office.told("mail.sent")) == 1


async def test_an_answer_that_comes_late_counts_unless_it_was_tried_again(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD
        async with office.sending(lease_seconds=60):
            key = await office.ask(to=to(anna))
            await wire.ended.wait()
            # Another replica takes the account, and takes the mail for unknown.
            await office.take_lease("send")
            await office.recover()
            assert (await office.row(key))["state"] == "accepted"
            wire.let_go.set()
            row = await office.is_in(key, "sent")
            (attempt,) = await office.attempts(key)
    assert (row["tries"], attempt["outcome"]) == (1, "accepted")
    assert len(await office.mails(anna)) == 1


async def test_who_lost_the_lease_does_not_begin_data(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD_RCPT
        async with office.sending(lease_seconds=60):
            key = await office.ask(to=to(anna))
            await wire.offered.wait()
            await office.take_lease("send")
            wire.let_go.set()
            await until(lambda: not wire.is_open())
    assert wire.mails == []
    row = await office.row(key)
    assert (row["state"], row["tries"]) == ("accepted", 0)


async def test_a_lease_that_cannot_be_renewed_ends_data_before_another_can_have_it(
    office: Office,
) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.HOLD
        async with office.sending(lease_seconds=2):
            key = await office.ask(to=to(anna))
            await wire.ended.wait()
            async with office.locked_leases():
                await until(lambda: not wire.is_open(), within=5)
            await office.tried(key, 1)
    (attempt,) = await office.attempts(key)
    assert (attempt["outcome"], "lease" in attempt["reply"]) == ("unknown", True)
