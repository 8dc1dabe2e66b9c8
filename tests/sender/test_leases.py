"""One replica at a time works for an account, a dead one is replaced, no clocks are compared."""

from datetime import timedelta

from mailroom_sender.leases import Seen, is_free, watched
from tests.sender.office import Office, to

LEASE = 15.0


def looked(*looks: tuple[float, str | None, int]) -> Seen:
    seen = None
    for now, holder, beat in looks:
        seen = watched(seen, holder, beat, now, LEASE)
    assert seen is not None
    return seen


def test_nobodys_lease_is_free_at_once() -> None:
    assert is_free(looked((0, None, 7)), LEASE)


def test_a_lease_is_free_after_it_stood_still_for_its_length() -> None:
    still = [(float(now), "one", 7) for now in range(16)]
    assert not is_free(looked(*still), LEASE)
    assert is_free(looked(*still, (16, "one", 7)), LEASE)


def test_two_looks_a_lease_suffice_to_see_that_it_stood_still() -> None:
    assert is_free(looked(*((now * LEASE / 2, "one", 7) for now in range(4))), LEASE)


def test_a_lease_that_is_renewed_is_never_free() -> None:
    assert not is_free(looked(*((float(now), "one", now // 5) for now in range(100))), LEASE)


def test_who_could_not_look_for_a_while_watches_anew() -> None:
    """The database was away: nobody could renew, and nobody could see it."""
    assert not is_free(looked((0, "one", 7), (1, "one", 7), (60, "one", 7)), LEASE)


async def test_a_dead_replica_is_replaced(office: Office) -> None:
    anna = office.mailbox()
    await office.ask(to=to(anna))
    await office.take_lease("send")
    async with office.sending(lease_seconds=1):
        await office.gets(anna, within=10)


async def test_a_living_replica_is_not_replaced_though_the_clock_is_moved(office: Office) -> None:
    anna = office.mailbox()
    async with office.wire() as wire:
        await office.send_by(wire)
        async with office.sending(replicas=2, idle_seconds=60):
            await office.ask(to=to(anna))
            await office.gets(anna, 1)
            holder = await office.lease_holder("send")
            office.move_clock(timedelta(days=1))
            await office.ask(to=to(anna))
            await office.gets(anna, 2)
            assert await office.lease_holder("send") == holder
        assert wire.connections == 1
