"""What a mutant is: a line of the source, broken as somebody might break it by mistake.

Invariant: every promise of Mailroom has a line that keeps it and a test that guards that line. The
lists beside this file (`*.toml`, by promise) say which; `python -m tests.mutants` tries them.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One way to break a promise, and who must notice."""

    promise: str
    breaks: str
    """What no longer holds, in a person's words; no two are alike."""
    file: str
    old: str
    """Text that is in the file exactly once."""
    new: str
    tests: str
    """The file of tests that guards the line."""
    killed_by: tuple[str, ...]
    """Its tests that must fail, all of them; a test with cases, in one of them at least."""
    beside: tuple[str, ...] = ()
    """Its tests that must go on passing, where running all the others takes long; none: all."""

    def mutated(self, source: str) -> str:
        """The source of `file`, broken. Raises NotOnce."""
        if source.count(self.old) != 1:
            raise NotOnce(self, source.count(self.old))
        return source.replace(self.old, self.new)

    def chosen(self) -> list[str]:
        """What pytest is to run."""
        if not self.beside:
            return [self.tests]
        return [f"{self.tests}::{name}" for name in (*self.killed_by, *self.beside)]


class NotOnce(Exception):
    """The text to break is not in its file, or more than once."""

    def __init__(self, mutant: Mutant, times: int) -> None:
        self.mutant, self.times = mutant, times
        super().__init__(
            f"{mutant.breaks!r}: `old` is {times} times in {mutant.file}; once, please"
        )


def listed(folder: Path = Path(__file__).parent) -> list[Mutant]:
    """All mutants of all lists, in the order in which they stand there."""
    return [
        _mutant(promise, row)
        for file in sorted(folder.glob("*.toml"))
        for promise, rows in tomllib.loads(file.read_text("utf-8")).items()
        for row in rows
    ]


def _mutant(promise: str, row: dict[str, Any]) -> Mutant:
    lists = {name: tuple(row.get(name, ())) for name in ("killed_by", "beside")}
    return Mutant(promise=promise, **(row | lists))
