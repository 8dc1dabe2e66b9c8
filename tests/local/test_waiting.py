import asyncio
import time

import pytest

from tests.waiting import NotInTime, until


async def test_the_first_true_answer_is_returned() -> None:
    answers = iter([None, 0, "", "here"])
    assert await until(lambda: next(answers)) == "here"


async def test_a_failed_assertion_is_not_yet() -> None:
    async def late() -> bool:
        assert time.monotonic() > began + 0.05, "too early"
        return True

    began = time.monotonic()
    assert await until(late)


async def test_in_the_end_it_says_what_was_seen_last() -> None:
    with pytest.raises(NotInTime, match=r"within 0.05 s: \[\]"):
        await until(list, within=0.05)


async def test_a_condition_that_hangs_is_bounded_too() -> None:
    with pytest.raises(NotInTime, match="nothing yet"):
        await until(lambda: asyncio.sleep(60, "never"), within=0.05)


async def test_another_error_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        await until(lambda: 1 / 0)
