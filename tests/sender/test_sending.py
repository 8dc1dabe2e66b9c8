"""A request leaves by the real Postfix, once; whoever refuses it is told, and tried as promised."""

from datetime import timedelta
from typing import Any

import pytest

from tests.local.mail import PASSWORD
from tests.sender.office import Office, to
from tests.waiting import until

MINUTE = timedelta(minutes=1)


def addresses(recipients: list[dict[str, Any]]) -> list[str]:
    return [one["address"] for one in recipients]


async def test_a_request_is_sent_once_and_filed_once(office: Office) -> None:
    anna = office.mailbox()
    async with office.sending():
        key = await office.ask(to=to(anna))
        (mail,) = await office.gets(anna)
        sent = await office.tells("mail.sent")
        filed = await office.tells("mail.filed")
    assert mail["Message-ID"] == f"<{sent['message_id']}>"
    assert addresses(sent["accepted"]) == [anna]
    assert (sent["idempotency_key"], sent["publisher"], sent["maybe_twice"]) == (key, "erp", False)
    (copy,) = await office.mails(office.address, "Sent")
    assert copy["X-Mailroom-Mail"] == sent["mail"]
    assert (filed["folder"], filed["uid"]) == ("Sent", 1)
    assert (await office.row(key))["state"] == "sent"


async def test_many_mails_go_over_one_connection(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        for _ in range(30):
            await office.ask(to=to(anna))
        async with office.sending():
            await office.gets(anna, 30)
        assert wire.connections == 1
        assert len(await office.told("mail.sent")) == 30


async def test_everybody_gets_it_once_and_nobody_sees_blind_recipients(office: Office) -> None:
    anna, bert, carl = office.mailbox(), office.mailbox(), office.mailbox()
    async with office.sending():
        await office.ask(to=to(anna, bert), cc=to(bert), bcc=to(carl, anna.upper()))
        for address in (anna, bert):
            (mail,) = await office.gets(address)
            assert carl not in str(mail)
        (blind,) = await office.gets(carl)
        assert carl not in f"{blind['To']} {blind['Cc']} {blind['Bcc']}"
        sent = await office.tells("mail.sent")
    assert addresses(sent["accepted"]) == [anna, bert, carl]


async def test_a_final_refusal_fails_at_once_and_is_not_filed(office: Office) -> None:
    async with office.sending():
        key = await office.ask(to=to("permfail@example.com"))
        failed = await office.tells("mail.failed")
        await office.is_in(key, "failed")
    assert (failed["reason"], failed["smtp_code"]) == ("refused", 550)
    assert addresses(failed["refused"]) == ["permfail@example.com"]
    assert await office.told("mail.sent") == []
    assert await office.mails(office.address, "Sent") == []


async def test_a_temporary_refusal_is_tried_after_1_5_15_60_minutes_then_every_4_hours(
    office: Office,
) -> None:
    key = await office.ask(to=to("tempfail@example.com"))
    async with office.sending():
        pauses = []
        for tries in range(1, 8):
            row = await office.tried(key, tries)
            pauses.append(
                round((row["due"] - (await office.attempts(key))[-1]["ended_at"]) / MINUTE)
            )
            office.move_clock(row["due"] - office.now() + timedelta(seconds=1))
        assert pauses == [1, 5, 15, 60, 240, 240, 240]
        assert await office.told("mail.failed") == []
        office.move_clock(timedelta(days=3))
        failed = await office.tells("mail.failed")
    assert (failed["reason"], failed["smtp_code"]) == ("expired", 451)


async def test_a_partial_refusal_is_told_for_each_recipient(office: Office) -> None:
    anna = office.mailbox()
    async with office.sending():
        await office.ask(to=to(anna, "permfail@example.com"))
        await office.gets(anna)
        sent = await office.tells("mail.sent")
    assert addresses(sent["accepted"]) == [anna]
    assert [(one["address"], one["code"]) for one in sent["refused"]] == [
        ("permfail@example.com", 550)
    ]
    assert await office.told("mail.failed") == []


async def test_whoever_was_refused_for_now_is_tried_again_and_nobody_else_gets_a_second_copy(
    office: Office,
) -> None:
    anna = office.mailbox()
    key = await office.ask(to=to(anna, "tempfail@example.com"))
    async with office.sending():
        row = await office.tried(key, 1)
        assert row["state"] == "sent"
        office.move_clock(2 * MINUTE)
        await office.tried(key, 2)
        office.move_clock(timedelta(days=3))
        failed = await office.tells("mail.failed")
    assert (failed["reason"], addresses(failed["refused"])) == ("expired", ["tempfail@example.com"])
    assert len(await office.told("mail.sent")) == 1
    assert len(await office.mails(anna)) == 1
    assert (await office.row(key))["state"] == "sent"


async def test_a_wrong_password_waits_and_goes_when_the_account_is_mended(office: Office) -> None:
    anna = office.mailbox()
    postfix = office.servers.postfix
    await office.set_server("smtp", (postfix.host, postfix.submissions, "implicit"), "wrong")
    key = await office.ask(to=to(anna))
    other = await office.ask(to=to(anna))
    async with office.sending():
        await office.tried(key, 1)
        await office.tried(other, 1)
        (attempt,) = await office.attempts(key)
        assert attempt["code"] == 535
        assert "wrong user or password" in attempt["reply"]
        await office.set_server("smtp", (postfix.host, postfix.submissions, "implicit"))
        await office.account_changed()
        await office.gets(anna, 2)


async def test_what_waited_for_the_server_goes_as_soon_as_anything_reaches_it(
    office: Office,
) -> None:
    anna = office.mailbox()
    port = office.free_port()
    await office.set_server("smtp", ("127.0.0.1", port, "none"), user="")
    waiting = [await office.ask(to=to(anna)) for _ in range(3)]
    async with office.sending():
        for tries in (1, 2):
            for key in waiting:
                await office.tried(key, tries)
            office.move_clock(MINUTE + timedelta(seconds=1))
        assert "connection refused" in (await office.attempts(waiting[0]))[0]["reply"]
        # They would wait for four minutes more.
        async with office.wire(listen=port):
            await office.ask(to=to(anna))
            await office.gets(anna, 4)


@pytest.mark.parametrize(("password", "minutes"), [(PASSWORD, 1), ("wrong", 15)])
async def test_a_server_that_cannot_be_reached_is_not_knocked_at_for_each_new_mail(
    office: Office, password: str, minutes: int
) -> None:
    anna, postfix = office.mailbox(), office.servers.postfix
    port = postfix.submissions if password == "wrong" else office.free_port()
    await office.set_server("smtp", (postfix.host, port, "implicit"), password)
    async with office.sending():
        await office.tried(await office.ask(to=to(anna)), 1)
        second = await office.ask(to=to(anna))
        office.move_clock(minutes * MINUTE - timedelta(seconds=5))
        # An account whose server is well is attended to meanwhile.
        await office.branch()
        await office.ask("ticketing", account="branch", to=to(anna))
        await office.gets(anna, 1)
        assert (await office.row(second))["tries"] == 0
        office.move_clock(timedelta(seconds=10))
        await office.tried(second, 1)


async def test_a_kept_connection_that_died_costs_no_try(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        async with office.sending(idle_seconds=60):
            await office.ask(to=to(anna))
            await office.gets(anna, 1)
            # The line is dead without a word: the client learns it when it next speaks.
            wire.deaf = True
            key = await office.ask(to=to(anna))
            await office.is_in(key, "sent")
            assert wire.connections == 2
        (attempt,) = await office.attempts(key)
        assert attempt["outcome"] == "accepted"


@pytest.mark.parametrize("moment", ["MAIL", "RCPT"])
async def test_a_server_that_closes_with_421_is_tried_again_later(
    office: Office, moment: str
) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        closing = b"421 4.3.2 shutting down\r\n"
        wire.answer = lambda command: closing if command.startswith(moment.encode()) else None
        async with office.sending():
            key = await office.ask(to=to(anna))
            row = await office.tried(key, 1)
            assert (row["state"], (await office.attempts(key))[0]["code"]) == ("accepted", 421)
            wire.answer = lambda _: None
            office.move_clock(2 * MINUTE)
            await office.gets(anna)


async def test_too_many_recipients_at_once_are_served_in_turn(office: Office) -> None:
    people = [office.mailbox() for _ in range(5)]
    async with office.wire() as wire:
        await office.send_by(wire)
        given = 0

        def two_each(command: bytes) -> bytes | None:
            nonlocal given
            given = 0 if command.startswith(b"MAIL") else given + command.startswith(b"RCPT")
            too_many = command.startswith(b"RCPT") and given > 2
            return b"452 4.5.3 too many recipients\r\n" if too_many else None

        wire.answer = two_each
        async with office.sending():
            await office.ask(to=to(*people))
            for address in people:
                await office.gets(address)
        assert len(wire.mails) == 3


async def test_send_at_waits_and_expires_at_ends(office: Office) -> None:
    anna = office.mailbox()
    later = office.now() + timedelta(hours=2)
    key = await office.ask(to=to(anna), send_at=later, expires_at=later + timedelta(hours=1))
    late = await office.ask(to=to(anna), expires_at=office.now() + timedelta(minutes=30))
    async with office.sending():
        await office.is_in(late, "sent")
    assert (await office.row(key))["state"] == "accepted"
    office.move_clock(timedelta(hours=2, minutes=1))
    async with office.sending():
        await office.is_in(key, "sent")
    expired = await office.ask(to=to(anna), expires_at=office.now() - MINUTE)
    async with office.sending():
        await office.is_in(expired, "failed")
        failed = await office.tells("mail.failed")
    assert failed["reason"] == "expired"
    assert len(await office.mails(anna)) == 2


async def test_a_removed_account_fails_what_waits_for_it(office: Office) -> None:
    key = await office.ask(to=to(office.mailbox()))
    await office.remove_account()
    async with office.sending():
        await office.is_in(key, "failed")
        failed = await office.tells("mail.failed")
    assert failed["reason"] == "account_removed"


async def test_a_disabled_account_keeps_what_waits_for_it(office: Office) -> None:
    anna = office.mailbox()
    key = await office.ask(to=to(anna))
    await office.change_account(enabled=False)
    async with office.sending():
        await office.tried(key, 1)
        assert "disabled" in (await office.attempts(key))[0]["reply"]
        await office.change_account(enabled=True)
        await office.account_changed()
        await office.gets(anna)


async def test_an_account_sends_no_faster_than_its_rate(office: Office) -> None:
    anna = office.mailbox()
    for _ in range(3):
        await office.ask(to=to(anna))
    async with office.sending(rate_per_minute=2):
        await office.gets(anna, 2)
        assert await office.has_due(1)
        office.move_clock(MINUTE)
        await office.gets(anna, 3)


async def test_a_new_process_knows_what_an_account_has_just_sent(office: Office) -> None:
    async with office.sending():
        for _ in range(3):
            await office.is_in(await office.ask(to=to(office.mailbox())), "sent")
    assert await office.just_sent(rate=2) == 2
    assert await office.just_sent(rate=10) == 3
    office.move_clock(MINUTE)
    assert await office.just_sent(rate=10) == 0


async def test_a_mail_that_breaks_us_does_not_stop_those_behind_it(office: Office) -> None:
    anna = office.mailbox()
    broken = await office.ask(to=to(anna))
    office.lose_object((await office.row(broken))["raw_sha256"])
    await office.ask(to=to(anna), text="another")
    async with office.sending():
        await office.gets(anna, 1)
        row = await office.tried(broken, 1)
    assert row["due"] is not None
    assert "is missing" in (await office.attempts(broken))[0]["reply"]


async def test_two_replicas_send_each_mail_once(office: Office) -> None:
    anna = office.mailbox()
    async with office.sending(replicas=2):
        for _ in range(20):
            await office.ask(to=to(anna))
        await office.gets(anna, 20, within=40)
        await until(lambda: office.has_told("mail.filed", 20))
    assert len(await office.told("mail.sent")) == 20
    assert len(await office.mails(office.address, "Sent")) == 20
