"""What mails took is given back: measured in a process of its own, which nothing else disturbs."""

import subprocess
import sys

WORK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from mailroom import memory

def used():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * 4096

def hold_for_a_moment(_):
    large = b"x" * 20_000_000
    del large
    for _ in range(3):
        mails = [b"x" * 300_000 for _ in range(20)]
        kept.append(b"x" * 1000)
        together.wait()

if "give back" in sys.argv:
    memory.give_back_soon()
kept, together = [], Barrier(16)
with ThreadPoolExecutor(16) as threads:
    before = used()
    list(threads.map(hold_for_a_moment, range(16)))
    print(used() - before)
"""
MEGABYTE = 1_000_000


def left_over(*arguments: str) -> int:
    command = [sys.executable, "-c", WORK, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_what_sixteen_threads_took_for_a_moment_is_given_back_where_glibc_would_keep_it() -> None:
    assert left_over() > 50 * MEGABYTE
    assert left_over("give back") < 4 * MEGABYTE
