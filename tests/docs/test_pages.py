"""What the pages say of the project is so: links, make targets, metrics, code, decisions."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from mailroom import serve
from mailroom.service import installed
from tests.docs.pages import ROOT, blocks, links, pages

PAGES = pytest.mark.parametrize("page", pages(), ids=str)
OF_A_MACHINE = re.compile(rf"{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}/|/home/")
MAKE = re.compile(r"(?:^|`)make ([a-z][a-z.-]*)", re.MULTILINE)
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
CRASHPOINT = re.compile(r'crashpoint\("([a-z_.]+)"')
TOLD_CRASHPOINT = re.compile(r"\| `([a-z_]+\.[a-z_]+)` \|$", re.MULTILINE)
METRIC = re.compile(r"`(mailroom_[a-z_]+)(?:\{[^}]*\})?`")


@PAGES
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not [written for written, target in links(page) if not target.exists()]


@PAGES
def test_no_page_names_a_path_of_the_machine_it_was_written_on(page: Path) -> None:
    assert not OF_A_MACHINE.findall((ROOT / page).read_text())


@PAGES
def test_every_fence_is_closed(page: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert fences[1::2] == [""] * (len(fences) // 2)
    assert len(fences) == 2 * len(blocks(page))


def targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


@PAGES
def test_make_can_do_what_a_page_asks_of_it(page: Path) -> None:
    asked = set(MAKE.findall((ROOT / page).read_text()))
    assert not {name for name in asked if not name.startswith(".")} - targets()


def test_the_readme_begins_with_the_two_commands() -> None:
    first = blocks("README.md")[0]
    commands = [line.partition("#")[0].split() for line in first.text.splitlines()]
    assert commands == [["make", "demo"], ["make", "test"]]


def test_there_is_one_picture_of_the_whole() -> None:
    assert blocks("README.md", "text")[0].text == blocks("docs/architecture.md", "text")[0].text


def test_every_metric_is_told_to_operators_and_no_other() -> None:
    assert serve, "messaging counts as soon as it is imported"
    installed()
    told = set(METRIC.findall((ROOT / "docs/operations.md").read_text()))
    counted = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in REGISTRY.collect()
        if metric.name.startswith("mailroom_")
    }
    assert told == counted


def code() -> str:
    files = [file for part in ("shared", "services") for file in (ROOT / part).rglob("*.py")]
    return "\n".join(file.read_text() for file in files)


def test_every_event_of_the_log_that_is_told_is_logged() -> None:
    _, _, table = (ROOT / "docs/operations.md").read_text().partition("| event | of |\n")
    rows = table.partition("\n\n")[0].splitlines()
    told = [name for row in rows for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1])]
    assert len(told) > len(rows)
    there = code()
    # Ticketing makes its own of what was decided: `mail.opened` of "opened".
    assert not [name for name in told if f'"{name.removeprefix("mail.")}"' not in there]


def test_every_crashpoint_is_told_and_no_other() -> None:
    there = set(CRASHPOINT.findall(code()))
    assert set(TOLD_CRASHPOINT.findall((ROOT / "docs/architecture.md").read_text())) == there


def test_code_on_a_page_stands_in_a_file_that_is_tested() -> None:
    examples = (ROOT / "docs" / "examples").rglob("*")
    tested = [file.read_text() for file in examples if file.suffix in (".py", ".js", ".toml")]
    untested = [
        block.place
        for page in pages()
        for language in ("python", "javascript", "toml")
        for block in blocks(page, language)
        if not any(block.text in text for text in tested)
    ]
    assert not untested


DECISIONS = ROOT / "docs" / "decisions"
NOTES = sorted(note.name for note in DECISIONS.glob("*.md") if note.name != "README.md")


def test_the_index_of_decisions_names_each_note_once() -> None:
    index = [target.name for _, target in links(Path("docs/decisions/README.md"))]
    assert index == NOTES


@pytest.mark.parametrize("note", NOTES)
def test_a_decision_says_why_what_was_refused_what_enforces_it_and_when_to_look_again(
    note: str,
) -> None:
    text = (DECISIONS / note).read_text()
    heads = re.findall(r"^(?:## |\*\*)(.*?)(?:\*\*|$)", text, re.MULTILINE)
    said = " ".join(heads).lower()
    assert [word for word in ("why", "refused", "enforce", "look again") if word not in said] == []
    assert len(text.split()) < 800, "a decision is one page"
