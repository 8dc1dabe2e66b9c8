"""`python -m tests.mutants [words]`: breaks each listed line in a copy; exactly its test must fail.

Invariant: exit code 0 means that every mutant was killed by the tests that its row names, and by no
other of those that ran beside them.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from uuid import uuid4

from tests.mutants import trying
from tests.mutants.forked import Forks, NotTheCopy, TakesTooLong, forking
from tests.mutants.mutant import ROOT, Mutant, NotOnce, listed
from tests.servers import held

WITHIN = 300.0
"""Seconds for the tests of a mutant."""
UNBROKEN_WITHIN = 1800.0
"""Seconds for the tests of all, once."""


def main() -> int:
    """Try all mutants, or those of which a word is in promise, file or what they break."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=main.__doc__)
    parser.add_argument("words", nargs="*", help="try those in which one of these words is")
    parser.add_argument("-n", type=int, default=3, help="mutants at the same time (default 3)")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in listed() if _is_meant(mutant, arguments.words)]
    started = time.monotonic()
    with _place(arguments.n) as place:
        if not _all_pass(mutants, place, arguments.n):
            return 1
        seconds = time.monotonic() - started
        print(f"{len(mutants)} mutants; unbroken, all their tests pass ({seconds:.0f} s)\n")
        with ThreadPoolExecutor(arguments.n) as threads:
            killed = sum(threads.map(partial(_is_killed, place), mutants))
    seconds = time.monotonic() - started
    print(f"\n{killed} of {len(mutants)} mutants killed by exactly their tests ({seconds:.0f} s)")
    return 0 if killed == len(mutants) else 1


class _Place:
    """Servers, the copy that all others are copies of, and whoever runs tests and is free."""

    def __init__(self, servers: Path, folder: Path, forks: Sequence[Forks]) -> None:
        self.servers, self.folder = servers, folder
        self.whole = trying.copy(ROOT, folder / "whole")
        self.free: SimpleQueue[Forks] = SimpleQueue()
        for each in forks:
            self.free.put(each)

    @contextmanager
    def forks(self) -> Iterator[Forks]:
        """One that nobody else uses meanwhile."""
        taken = self.free.get()
        try:
            yield taken
        finally:
            self.free.put(taken)


@contextmanager
def _place(count: int) -> Iterator[_Place]:
    with ExitStack() as stack:
        servers = stack.enter_context(held())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mailroom-mutants-"))
        forks = [stack.enter_context(forking()) for _ in range(count)]
        yield _Place(servers, Path(folder), forks)


def _is_meant(mutant: Mutant, words: Sequence[str]) -> bool:
    text = f"{mutant.promise} {mutant.breaks} {mutant.file}".lower()
    return not words or any(word.lower() in text for word in words)


def _all_pass(mutants: Sequence[Mutant], place: _Place, workers: int) -> bool:
    """Whether the tests pass while nothing is broken; it also compiles the copy that is copied."""
    chosen = sorted({test for mutant in mutants for test in mutant.chosen()})
    around = trying.environment(place.whole, place.servers)
    several = ("-n", str(workers), "--dist", "worksteal")
    with place.forks() as forks:
        ran = trying.tests(forks, place.whole, chosen, around, UNBROKEN_WITHIN, *several)
    if ran.failed or ran.broken or not ran.passed:
        print(ran.said)
        return False
    return True


def _is_killed(place: _Place, mutant: Mutant) -> bool:
    """Break, test, say in a line what came of it."""
    name, started, said = f"mutant-{uuid4().hex[:8]}", time.monotonic(), ""
    folder = place.folder / name
    try:
        trying.broken_copy(place.whole, folder, mutant)
        around = trying.environment(folder, place.servers) | {"MAILROOM_TEST_WORKER": name}
        with place.forks() as forks:
            ran = trying.tests(forks, folder, mutant.chosen(), around, WITHIN)
        fault, said = trying.fault(mutant, ran), ran.said
    except (NotOnce, NotTheCopy, TakesTooLong) as failed:
        fault = str(failed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    how = f"NOT KILLED: {fault}\n{said}" if fault else f"killed by {', '.join(mutant.killed_by)}"
    print(f"{seconds:5.1f} s  {mutant.promise}: {mutant.breaks}\n         {how}", flush=True)
    return not fault


if __name__ == "__main__":
    sys.exit(main())
