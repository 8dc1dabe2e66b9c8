"""Bounded waiting on a condition: the only place where tests sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

PAUSE = 0.02


class NotInTime(AssertionError):
    """The condition did not come true; the message has what it last said."""


@overload
async def until(
    condition: Callable[[], Awaitable[T | None]], within: float = ..., every: float = ...
) -> T: ...
@overload
async def until(
    condition: Callable[[], T | None], within: float = ..., every: float = ...
) -> T: ...
async def until(condition: Callable[[], Any], within: float = 10.0, every: float = PAUSE) -> Any:
    """Ask `condition`, sync or async, until its answer is true, and return that answer.

    An AssertionError or OSError of the condition counts as "not yet", any other is raised. Raises
    NotInTime after `within` seconds, with the last answer or error; a condition that is still
    being awaited then is cancelled. It is asked `every` so many seconds: rarely, if asking is dear.
    """
    deadline = time.monotonic() + within
    last = "nothing yet"
    while True:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                answer = condition()
                value = await answer if inspect.isawaitable(answer) else answer
        except TimeoutError:
            raise NotInTime(f"{_name(condition)} within {within:g} s: {last}") from None
        except (AssertionError, OSError) as not_yet:
            last = f"{type(not_yet).__name__}: {not_yet}"
        else:
            if value:
                return value
            last = repr(value)
        if time.monotonic() > deadline:
            raise NotInTime(f"{_name(condition)} within {within:g} s: {last}")
        await asyncio.sleep(every)


def _name(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"not true: {getattr(condition, '__qualname__', repr(condition))}{where}"
