from tests.messaging.world import DESK, SHOP, OrderPlaced, World, desk_messaging
from tests.waiting import until


async def test_an_event_written_in_one_service_is_handled_once_in_another(world: World) -> None:
    async with world.running(SHOP), world.running(DESK):
        await world.place(*(OrderPlaced(number=number) for number in range(300)))

        async def all_taken() -> bool:
            return len(await world.taken()) == 300

        await until(all_taken)
    assert await world.taken() == list(range(300))
    assert await world.count(desk_messaging.consumed) == 300
