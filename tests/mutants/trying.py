"""Tries one mutant: a copy of the project with one line broken, in which its tests run.

Invariant: what runs is the copy, with servers that others hold. A mutant is killed if the tests
that its row names fail, by what they assert, and no other of those beside them does.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.mutants.forked import Forks
from tests.mutants.mutant import Mutant
from tests.servers import GIVEN

_PARTS = (
    "deploy",
    "docs",
    "services",
    "shared",
    "tests",
    "Makefile",
    "README.md",
    "pyproject.toml",
)
_BROKEN = ("ImportError", "ModuleNotFoundError", "NameError", "SyntaxError", "IndentationError")
"""Of a test that fails so, the mutant is no program: that it is noticed proves nothing."""


@dataclass(frozen=True)
class Ran:
    """What became of the tests of one run, by their names without cases."""

    failed: frozenset[str]
    passed: frozenset[str]
    broken: frozenset[str]
    """Not failed by what they test: set-up, collection, a name that is not there."""
    said: str


def copy(source: Path, target: Path) -> Path:
    """A copy of all that tests run on, compiled files too, if there are any."""
    target.mkdir()
    for name in _PARTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns(".*"))
        else:
            shutil.copy2(source / name, target / name)
    return target


def broken_copy(whole: Path, target: Path, mutant: Mutant) -> Path:
    """A copy of `whole` with the mutant's line broken. Raises NotOnce."""
    copy(whole, target)
    file = target / mutant.file
    file.write_text(mutant.mutated(file.read_text("utf-8")), "utf-8")
    # Compiled files are known by the second in which their source was written.
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
        compiled.unlink()
    return target


def environment(folder: Path, servers: Path) -> dict[str, str]:
    """Such that a copy is imported rather than the checkout, and given servers are used."""
    sources = [folder / "shared", *sorted((folder / "services").iterdir()), folder]
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("MAILROOM_")},
        "PYTHONPATH": os.pathsep.join(str(each) for each in sources),
        GIVEN: str(servers),
    }


def tests(
    forks: Forks,
    folder: Path,
    chosen: Sequence[str],
    around: dict[str, str],
    within: float,
    *options: str,
) -> Ran:
    """Run tests of a copy, `within` so many seconds. Raises TakesTooLong, NotTheCopy."""
    report = folder / "report.xml"
    quiet = ["-p", "no:cacheprovider", "--tb=short", "--durations=0", "--durations-min=10"]
    arguments = [*quiet, f"--junitxml={report}", *options, *chosen]
    said = forks.run(folder, around, arguments, within)
    return _read(report, said)


def fault(mutant: Mutant, ran: Ran) -> str:
    """Why these tests have not killed the mutant as they should; empty if they have."""
    killers = frozenset(mutant.killed_by)
    if ran.broken:
        return f"it broke more than a line: {', '.join(sorted(ran.broken))} cannot be run"
    if alive := killers - ran.failed:
        return f"it survives {', '.join(sorted(alive))}"
    if others := ran.failed - killers:
        return f"other tests fail too: {', '.join(sorted(others))}"
    if missing := frozenset(mutant.beside) - ran.passed:
        return f"did not run: {', '.join(sorted(missing))}"
    return ""


def _read(report: Path, said: str) -> Ran:
    by_verdict: dict[str, set[str]] = {"failed": set(), "passed": set(), "broken": set()}
    cases = ET.parse(report).iter("testcase") if report.exists() else ()  # noqa: S314 -- our own
    for case in cases:
        by_verdict[_verdict(case)].add(case.get("name", "").partition("[")[0])
    passed = by_verdict["passed"] - by_verdict["failed"] - by_verdict["broken"]
    return Ran(
        failed=frozenset(by_verdict["failed"]),
        passed=frozenset(passed),
        broken=frozenset(by_verdict["broken"]),
        said=said,
    )


def _verdict(case: ET.Element) -> str:
    if case.find("error") is not None:
        return "broken"
    failure = case.find("failure")
    if failure is None:
        return "passed"
    return "broken" if failure.get("message", "").startswith(_BROKEN) else "failed"
