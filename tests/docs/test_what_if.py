"""The page that says what happens to a mail names the test that proves each line, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "what-if.md"
PROOF = re.compile(r"\]\(\.\./(?P<file>tests/[\w/]+\.py)#(?P<test>\w+)\)")
ROW = re.compile(r"^\| (?!if \||---)", re.MULTILINE)
OF_THE_TOOLS = {"test_model.py", "test_proxy.py", "test_traps.py", "test_undisturbed.py"}
"""These prove that the others can prove something."""


def functions_of(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def named() -> dict[str, set[str]]:
    """The tests that the page names, by file."""
    found: dict[str, set[str]] = {}
    for proof in PROOF.finditer(PAGE.read_text()):
        found.setdefault(proof["file"], set()).add(proof["test"])
    return found


@pytest.mark.parametrize("file", sorted(named()))
def test_every_proof_is_a_test(file: str) -> None:
    assert named()[file] - set(functions_of(ROOT / file)) == set()


def test_every_line_has_its_proof() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if ROW.match(line)]
    assert lines
    assert [line for line in lines if not PROOF.search(line)] == []


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("tests/faults/test_*.py")), ids=lambda file: file.name
)
def test_every_plug_that_is_pulled_has_its_line(file: Path) -> None:
    if file.name in OF_THE_TOOLS:
        return
    pulled = {name for name in functions_of(file) if name.startswith("test_")}
    assert pulled - named().get(str(file.relative_to(ROOT)), set()) == set()
