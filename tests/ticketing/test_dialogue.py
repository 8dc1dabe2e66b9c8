"""The order in which a dialogue is read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from mailroom_ticketing.dialogue import Entry, in_order
from tests.ticketing.bench import Bench
from tests.ticketing.desk import NOON, answer, later, mail


def entry(name: str, at: datetime, *references: str) -> Entry:
    return Entry(
        at=at,
        direction="in",
        kind="mail",
        sender="",
        recipients=(),
        subject="",
        mail=None,
        message_id=name,
        references=references,
        rule="",
        why="",
        raw=None,
        text=None,
        told=(),
    )


def names(entries: Sequence[Entry]) -> str:
    return "".join(each.message_id or "" for each in in_order(entries))


def test_mails_are_read_by_their_time() -> None:
    entries = [entry("c", later(hours=2)), entry("a", NOON), entry("b", later(hours=1))]
    assert names(entries) == "abc"


def test_no_mail_is_read_before_one_that_it_answers_whatever_the_clocks_say() -> None:
    question, reply = entry("a", later(hours=2)), entry("b", later(hours=1), "a")
    thanks = entry("c", NOON, "a", "b")
    assert names([thanks, reply, question]) == "abc"
    assert names([thanks, entry("d", later(hours=3)), reply, question]) == "abcd"


def test_mails_that_answer_each_other_are_read_all_the_same() -> None:
    assert names([entry("a", NOON, "b"), entry("b", NOON, "a")]) == "ab"


async def test_a_strangers_date_is_believed_within_a_day_and_ours_always(bench: Bench) -> None:
    first = mail(date=later(minutes=-5))
    await bench.bring(first)
    wrong = mail(answers=first, date=later(days=-400), received_at=later(minutes=1))
    ahead = mail(answers=first, date=later(days=4), received_at=later(minutes=2))
    none = mail(answers=first, date=None, received_at=later(minutes=3))
    ours = replace(answer(answers=first, date=later(minutes=4)), received_at=later(hours=9))
    await bench.bring(wrong, ahead, none, ours)
    assert await bench.times(1) == [later(minutes=minutes) for minutes in (-5, 1, 2, 3, 4)]
