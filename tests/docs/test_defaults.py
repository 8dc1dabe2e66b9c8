"""The list of defaults that we override names tests that are there, and all of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

NOTE = ROOT / "docs" / "decisions" / "defaults-we-override.md"
SAYS = "Default overridden: "


def listed() -> list[str]:
    rows = [line for line in NOTE.read_text().splitlines() if line.startswith("| ")]
    return [row.split("|")[-2].strip().strip("`") for row in rows[1:]]


def functions(file: Path) -> Iterator[tuple[str, str]]:
    """Each test of a file, as pytest names it, and its docstring."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            yield f"{file.relative_to(ROOT)}::{node.name}", ast.get_docstring(node) or ""


def test_every_default_that_a_test_overrides_is_listed_with_it_and_no_other() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    saying = [name for file in files for name, doc in functions(file) if doc.startswith(SAYS)]
    assert len(saying) > 20
    assert sorted(listed()) == sorted(saying)
