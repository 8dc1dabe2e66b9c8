"""The list of mutants does not rot: each can still be made, and the tests that kill it exist."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.mutant import ROOT, Mutant, listed

MUTANTS = listed()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_a_line_to_break_is_in_its_file_once_and_its_tests_exist(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text("utf-8")
    assert mutant.mutated(source) != source
    there = {
        node.name
        for node in ast.parse((ROOT / mutant.tests).read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert mutant.killed_by
    assert there >= {*mutant.killed_by, *mutant.beside}


def test_a_mutant_is_a_program_that_breaks_a_promise_and_no_name(tmp_path: Path) -> None:
    for number, mutant in enumerate(MUTANTS):
        source = (ROOT / mutant.file).read_text("utf-8")
        (tmp_path / f"mutant_{number}.py").write_text(mutant.mutated(source), "utf-8")
    undefined = ["check", "--isolated", "--select", "F82", "--target-version", "py311"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *undefined, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_there_are_many_of_them_and_no_two_break_the_same() -> None:
    assert len(MUTANTS) >= 40
    said = Counter(mutant.breaks for mutant in MUTANTS)
    assert [breaks for breaks, times in said.items() if times > 1] == []
