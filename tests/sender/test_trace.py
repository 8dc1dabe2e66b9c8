"""The sender's part of a mail's way: asked for, tried, sent, filed, each with its time and why."""

from datetime import timedelta

from mailroom.service import TraceKeys
from mailroom_sender.trace import trace
from tests.sender.office import Office, to
from tests.sender.wire import AtEnd


async def test_each_step_is_told_with_what_the_server_said(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_AFTER
        async with office.sending():
            key = await office.ask(to=to(anna))
            await office.tried(key, 1)
            wire.at_end = AtEnd.PASS
            office.move_clock(timedelta(minutes=2))
            sent = await office.tells("mail.sent")
            await office.tells("mail.filed")
    async with office.resources.engine.begin() as tx:
        by_message_id = await trace(tx, TraceKeys(message_ids=frozenset({sent["message_id"]})))
        keys, steps = by_message_id
        assert await trace(tx, TraceKeys(mails=keys.mails)) == by_message_id
        assert await trace(tx, TraceKeys(correlation_ids=keys.correlation_ids)) == by_message_id
        assert await trace(tx, TraceKeys(message_ids=frozenset({"unknown@x"}))) == (TraceKeys(), [])
    steps = sorted(steps, key=lambda step: step.at)
    assert [step.what for step in steps] == ["accepted", "unknown", "sent", "filed"]
    assert steps[0].detail["key"] == key
    assert "no answer to DATA" in steps[1].why
    assert steps[2].why.startswith("250 2.0.0")
    assert steps[3].detail["folder"] == "Sent"


async def test_what_failed_or_was_cancelled_is_told(office: Office) -> None:
    refused = await office.ask(to=to("permfail@example.com"))
    waiting = await office.ask(to=to("a@example.com"), send_at=office.now() + timedelta(hours=1))
    await office.cancel(waiting)
    async with office.sending():
        await office.is_in(refused, "failed")
    mails = frozenset([(await office.row(key))["mail"] for key in (refused, waiting)])
    async with office.resources.engine.begin() as tx:
        _, steps = await trace(tx, TraceKeys(mails=mails))
    told = {step.what: step.why for step in steps}
    assert told.keys() == {"accepted", "refused", "failed", "cancelled"}
    assert told["refused"].startswith("550 5.1.1")
