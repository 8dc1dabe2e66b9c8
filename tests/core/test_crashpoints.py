import os
import subprocess
import sys
from signal import SIGKILL

import pytest

STEPS = """
from mailroom.crashpoints import crashpoint
for place in [("a",), ("b", "one"), ("b", "two"), ("b", "two"), ("b", "one"), ("c",)]:
    print(*place, flush=True)
    crashpoint(*place)
"""


def steps(armed: str | None) -> tuple[int, list[str]]:
    """How a process ended, and the crashpoints that it came to."""
    environment = {key: at for key, at in os.environ.items() if key != "MAILROOM_CRASHPOINT"}
    if armed is not None:
        environment["MAILROOM_CRASHPOINT"] = armed
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment, check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("armed", [None, "", "d", "b@three", "b@one#3", "a@one"])
def test_nothing_happens_unless_a_place_is_armed_that_it_comes_to(armed: str | None) -> None:
    assert steps(armed) == (0, ["a", "b one", "b two", "b two", "b one", "c"])


@pytest.mark.parametrize(
    ("armed", "last"),
    [
        ("a", ["a"]),
        ("b", ["a", "b one"]),
        ("b#2", ["a", "b one", "b two"]),
        ("b@two", ["a", "b one", "b two"]),
        ("b@two#2", ["a", "b one", "b two", "b two"]),
    ],
)
def test_the_process_is_killed_where_and_when_it_is_armed_to_be(
    armed: str, last: list[str]
) -> None:
    assert steps(armed) == (-SIGKILL, last)


def test_what_counts_nothing_ends_the_process_at_its_start() -> None:
    code, came_to = steps("a#often")
    assert (code, came_to) == (1, [])
