"""How many bytes of bodies are in memory at a time."""

import asyncio

from mailroom_fetcher.budget import Budget
from tests.waiting import until


async def _hold(budget: Budget, size: int, order: list[int], done: asyncio.Event) -> None:
    async with budget.of(size):
        order.append(size)
        await done.wait()


async def test_who_fits_passes_and_who_does_not_waits() -> None:
    budget, order, done = Budget(10), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(_hold(budget, size, order, done)) for size in (6, 3, 2)]
    await until(lambda: len(order) == 2)
    assert order == [6, 3]
    done.set()
    await asyncio.gather(*tasks)
    assert order == [6, 3, 2]
    assert budget.left == 10


async def test_a_batch_larger_than_all_passes_alone() -> None:
    budget = Budget(10)
    async with budget.of(50):
        assert budget.left == 0
    assert budget.left == 10


async def test_a_large_batch_is_not_overtaken_for_ever() -> None:
    budget, order = Budget(10), list[int]()
    first, later = asyncio.Event(), asyncio.Event()
    one = asyncio.create_task(_hold(budget, 6, order, first))
    await until(lambda: order == [6])
    large = asyncio.create_task(_hold(budget, 9, order, later))
    await until(lambda: len(budget._waiting) == 1)
    small = asyncio.create_task(_hold(budget, 1, order, later))
    await until(lambda: len(budget._waiting) == 2)
    first.set()
    await until(lambda: len(order) == 3)
    assert order == [6, 9, 1]
    later.set()
    await asyncio.gather(one, large, small)


async def test_who_gives_up_waiting_takes_nothing() -> None:
    budget, order, done = Budget(10), list[int](), asyncio.Event()
    one = asyncio.create_task(_hold(budget, 10, order, done))
    await until(lambda: order == [10])
    waiting = [asyncio.create_task(_hold(budget, 8, order, done)) for _ in range(2)]
    await until(lambda: len(budget._waiting) == 2)
    waiting[0].cancel()
    done.set()
    await asyncio.gather(one, waiting[1])
    assert budget.left == 10
