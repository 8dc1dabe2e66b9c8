"""When somebody is taken for dead: after he was watched standing still, and not before."""

from mailroom.standstill import Seen, watched

LENGTH = 15.0


def looked(*looks: tuple[float, int]) -> Seen:
    seen = None
    for now, sign in looks:
        seen = watched(seen, sign, now, LENGTH)
    assert seen is not None
    return seen


def test_who_stood_still_for_the_whole_length_is_dead() -> None:
    still = [(float(now), 7) for now in range(16)]
    assert not looked(*still).stands_still(LENGTH)
    assert looked(*still, (16, 7)).stands_still(LENGTH)


def test_two_looks_a_length_suffice_to_see_that() -> None:
    assert looked(*((now * LENGTH / 2, 7) for now in range(4))).stands_still(LENGTH)


def test_who_gives_signs_of_life_lives() -> None:
    assert not looked(*((float(now), now // 5) for now in range(100))).stands_still(LENGTH)


def test_a_sign_that_goes_back_is_a_sign() -> None:
    assert not looked((0, 7), (10, 7), (15.5, 6)).stands_still(LENGTH)


def test_who_could_not_look_for_a_while_watches_anew() -> None:
    """The database was away: nobody could give a sign, and nobody could see one."""
    assert not looked((0, 7), (1, 7), (60, 7)).stands_still(LENGTH)
