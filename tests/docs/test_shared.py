"""What is shared stays as small as its decision says."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

SHARED = ROOT / "shared" / "mailroom"
LIMITS = {
    "mime": 2600,
    "messaging": 2250,
    "imap": 1000,
    "rest": 1650,
    "contracts": 600,
    "directory": 350,
}
"""Lines of code: docs/decisions/what-is-shared.md tells why, and is changed with these."""
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def part_of(file: Path) -> str:
    first, *below = file.relative_to(SHARED).parts
    return first if below else "rest"


def docstrings(source: str) -> Iterator[int]:
    """The lines of bare strings: docstrings, and those below a field."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def lines_of_code(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = [token for token in tokens if token.type not in _NO_CODE]
    lines = {line for token in code for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - set(docstrings(source)))


def test_comments_blank_lines_and_docstrings_are_no_code() -> None:
    assert (
        lines_of_code('"""A\nB."""\n\n# why\nA = 1  # so\n"""What."""\n\n\nB = (\n    2,\n)\n') == 4
    )


@pytest.mark.parametrize("part", LIMITS)
def test_a_part_of_shared_is_within_its_limit(part: str) -> None:
    files = [file for file in SHARED.rglob("*.py") if part_of(file) == part]
    assert 0 < sum(lines_of_code(file.read_text()) for file in files) <= LIMITS[part]


def test_every_part_of_shared_has_a_limit() -> None:
    assert {part_of(file) for file in SHARED.rglob("*.py")} == LIMITS.keys()
