"""The way of one mail through ticketing."""

from mailroom.service import TraceKeys, TraceStep
from mailroom.trace import joined
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.trace import trace
from tests.ticketing.bench import Bench
from tests.ticketing.desk import STRANGER, mail


async def steps_of(bench: Bench, keys: TraceKeys) -> tuple[TraceKeys, list[TraceStep]]:
    """As `mailroom trace` asks: until the keys grow no more."""
    asked = None
    async with bench.resources.engine.connect() as connection:
        while keys != asked:
            asked = keys
            found, steps = await trace(connection, keys)
            keys = joined(keys, found)
    return found, sorted(steps, key=lambda step: step.at)


def by_message_id(sought: TicketMail) -> TraceKeys:
    return TraceKeys(message_ids=frozenset({sought.message_id or ""}))


async def test_opening_acknowledging_and_leaving_are_steps_with_their_reasons(
    bench: Bench,
) -> None:
    first = mail()
    (told,) = await bench.sent(*await bench.bring(first))
    found, steps = await steps_of(bench, by_message_id(first))
    assert {step.what for step in steps} == {"opened", "acknowledged", "told sent", "joined"}
    assert {first.id, told.mail} <= found.mails
    assert found.correlation_ids == {str(first.id)}
    opened = next(step for step in steps if step.what == "opened")
    assert opened.why == "it belongs to no ticket that was there"
    assert opened.detail == {"ticket": "1", "mail": str(first.id)}


async def test_a_suggestion_and_why_nothing_was_sent_are_steps(bench: Bench) -> None:
    await bench.bring(mail())
    forged = mail(STRANGER, subject="[#1] me too", auto="bulk")
    await bench.bring(forged)
    _, steps = await steps_of(bench, TraceKeys(mails=frozenset({forged.id})))
    assert {(step.what, step.why) for step in steps} == {
        ("opened", "it belongs to no ticket that was there"),
        ("not acknowledged", "automatic mail"),
        ("suggested", "perhaps of ticket 1: its subject has the number [#1] without a signature"),
    }


async def test_what_was_noted_or_passed_over_says_why(bench: Bench) -> None:
    old = mail(backfill=True)
    await bench.bring(old)
    _, steps = await steps_of(bench, TraceKeys(mails=frozenset({old.id})))
    assert [(step.what, step.why) for step in steps] == [
        ("noted", "older than its account's start: it opens no ticket")
    ]


async def test_a_mail_that_nobody_knows_has_no_steps(bench: Bench) -> None:
    assert await steps_of(bench, by_message_id(mail())) == (TraceKeys(), [])
