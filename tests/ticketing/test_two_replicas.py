"""Two replicas, one conversation: who comes second waits, sees what was decided, and joins."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
from sqlalchemy import text

from mailroom import clock
from mailroom.contracts import MailRouted
from mailroom.messaging.envelope import Outgoing, Received
from mailroom_ticketing import loading, recording, store
from mailroom_ticketing.mails import TicketMail, key_of
from mailroom_ticketing.recording import DecidedElsewhere
from mailroom_ticketing.service import open_or_join
from mailroom_ticketing.tickets import Placement, decide
from tests.ticketing.bench import Bench, came, routed
from tests.ticketing.desk import (
    ACCOUNT,
    COLLEAGUE,
    CUSTOMER,
    RING,
    SALES_MAILBOX,
    SERVICE_MAILBOX,
    US,
    answer,
    mail,
)
from tests.waiting import until

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def somebody_waits(bench: Bench) -> bool:
    (row,) = await bench.rows(WAITING)
    return bool(row[0])


async def at_once(
    bench: Bench, first: Received[MailRouted], second: Received[MailRouted]
) -> tuple[Sequence[Outgoing], Sequence[Outgoing]]:
    """The second replica begins when the first has decided and not yet committed."""
    async with bench.resources.engine.begin() as tx:
        one = await open_or_join(tx, [first], bench.resources)
        other = asyncio.create_task(bench.handle(open_or_join, second))
        await until(lambda: somebody_waits(bench))
    return one, await other


async def tickets(bench: Bench) -> int:
    (row,) = await bench.rows("SELECT count(*) FROM ticketing.ticket")
    count: int = row[0]
    return count


def original_and_reply() -> tuple[TicketMail, TicketMail]:
    original = mail(to=(US, COLLEAGUE))
    return original, mail(COLLEAGUE, answers=original, to=(US, CUSTOMER))


@pytest.mark.parametrize("reply_first", [False, True])
async def test_an_original_and_its_reply_are_one_ticket(bench: Bench, *, reply_first: bool) -> None:
    pair = [came(routed(each)) for each in original_and_reply()]
    one, other = await at_once(bench, *(reversed(pair) if reply_first else pair))
    assert (len(one), len(other), await tickets(bench)) == (1, 0, 1)


async def test_two_replies_to_a_mail_that_nobody_has_yet_are_one_ticket(bench: Bench) -> None:
    unseen = answer()
    pair = [came(routed(mail(answers=unseen))) for _ in range(2)]
    one, other = await at_once(bench, *pair)
    assert (len(one), len(other), await tickets(bench)) == (1, 0, 1)


async def test_one_mail_through_two_accounts_is_one_ticket_and_one_answer(bench: Bench) -> None:
    twice = mail(message_id=None)
    pair = came(routed(twice)), came(routed(twice, SALES_MAILBOX))
    one, other = await at_once(bench, *pair)
    assert (len(one), len(other), await tickets(bench)) == (1, 0, 1)


async def test_an_answer_and_its_question_are_one_ticket(bench: Bench) -> None:
    question = mail()
    await at_once(bench, came(routed(answer(answers=question))), came(routed(question)))
    assert await bench.rows("SELECT DISTINCT ticket FROM ticketing.mail") == [(1,)]


async def test_one_address_is_answered_once_an_hour_by_both_together(bench: Bench) -> None:
    one, other = await at_once(bench, came(routed(mail())), came(routed(mail())))
    assert (len(one), len(other), await tickets(bench)) == (1, 0, 2)


async def test_conversations_that_have_nothing_in_common_do_not_wait(bench: Bench) -> None:
    async with bench.resources.engine.begin() as tx:
        await open_or_join(tx, [came(routed(mail()))], bench.resources)
        async with asyncio.timeout(5):
            await bench.handle(open_or_join, came(routed(mail("other@customer.example"))))


async def test_a_ticket_closed_while_a_mail_joins_it_is_closed_afterwards(bench: Bench) -> None:
    async def close() -> None:
        async with bench.resources.engine.begin() as tx:
            await store.close(tx, 1, clock.now())

    first = mail()
    await bench.bring(first)
    joining, now = mail(answers=first), clock.now()
    async with bench.resources.engine.begin() as tx:
        known = await loading.load(tx, [joining], [], now)
        closing = asyncio.create_task(close())
        await until(lambda: somebody_waits(bench))
        place = Placement(uuid4(), SERVICE_MAILBOX, ACCOUNT)
        await recording.record(tx, known, decide(known, joining, place, RING, now), now)
    await closing
    assert await bench.rows("SELECT state FROM ticketing.ticket") == [("closed",)]


async def test_many_batches_with_the_same_mails_in_any_order_end_without_a_deadlock(
    bench: Bench,
) -> None:
    originals = [mail(f"{number}@customer.example") for number in range(8)]
    replies = [mail(*each.senders, answers=each) for each in originals]
    batches = [
        [*originals, *replies],
        [*reversed(originals), *reversed(replies)],
        [*replies, *originals],
        [*reversed(replies), *originals],
    ]
    async with asyncio.timeout(30):
        sends = await asyncio.gather(*(bench.bring(*batch) for batch in batches))
    assert sum(map(len, sends)) == len(originals)
    assert await tickets(bench) == len(originals)


@pytest.mark.parametrize("taken", ["mail", "message-id"])
async def test_should_a_lock_fail_the_keys_let_one_through_and_the_other_reads_again(
    bench: Bench, taken: str
) -> None:
    """What the other wrote without the lock is written past it here, by hand."""
    now, first = clock.now(), mail()
    async with bench.resources.engine.begin() as tx:
        known = await loading.load(tx, [first], [], now)
        decided = decide(known, first, Placement(uuid4(), SERVICE_MAILBOX, ACCOUNT), RING, now)
        await _written_past_the_lock(bench, first, taken)
        with pytest.raises(DecidedElsewhere) as refused:
            await recording.record(tx, known, decided, now)
        await tx.rollback()
    assert refused.value.mails == (first.id,)
    assert refused.value.after is not None


async def _written_past_the_lock(bench: Bench, first: TicketMail, taken: str) -> None:
    theirs = {"mail": first.id if taken == "mail" else uuid4()}
    async with bench.resources.engine.begin() as other:
        await other.execute(
            text(
                """
                WITH opened AS (
                    INSERT INTO ticketing.ticket
                        (ticket_queue, state, priority, subject, created_at, updated_at)
                    VALUES (1, 'new', 'normal', '', now(), now()) RETURNING number
                )
                INSERT INTO ticketing.mail
                    (mail, ticket, direction, "references", senders, recipients, subject, auto,
                     backfill, raw_sha256, raw_size, received_at, correlation_id, rule, evidence,
                     decided_at)
                SELECT :mail, number, 'in', '{}', '{}', '{}', '', 'none', false, '', 0, now(), '',
                    'opened', '{}', now() FROM opened
                """
            ),
            theirs,
        )
        if taken == "message-id":
            await other.execute(
                text("INSERT INTO ticketing.message_id VALUES (:key, 0, :mail, true)"),
                {"key": key_of(first.message_id or ""), **theirs},
            )


async def test_positions_of_a_message_id_never_repeat(bench: Bench) -> None:
    unseen = answer()
    for _ in range(3):
        await bench.bring(mail(f"{uuid4()}@customer.example", answers=unseen))
    positions = await bench.rows(
        "SELECT array_agg(position ORDER BY position) FROM ticketing.message_id "
        "GROUP BY key ORDER BY count(*) DESC LIMIT 1"
    )
    assert positions == [([0, 1, 2],)]
