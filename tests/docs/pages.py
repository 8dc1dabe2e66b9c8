"""The pages of the project, their blocks of code and their links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NOT_OURS = {".venv", "node_modules", "build"}
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, as an editor opens it."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown file of the project."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    ours = (
        path
        for path in found
        if not any(part in _NOT_OURS or part[0] == "." for part in path.parts)
    )
    return sorted(ours)


def blocks(page: Path | str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, of one language or of all, in page order."""
    text = (ROOT / page).read_text()
    found = [
        Block(str(page), text.count("\n", 0, match.start()) + 1, match["language"], match["text"])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def links(page: Path) -> Iterator[tuple[str, Path]]:
    """Each link of a page to a file of the project: as written, and where it leads."""
    for match in _LINK.finditer(_CODE.sub("", (ROOT / page).read_text())):
        target = match["target"].partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            yield match["target"], ROOT / page.parent / target
