"""The reader in these tests does what a page says, and notices when it is wrong."""

import os
from pathlib import Path
from typing import cast

import pytest

from deploy.local import Servers
from tests.docs.pages import Block
from tests.docs.terminal import BlockFailed, Terminal, plain_environment

NO_SERVERS = cast("Servers", None)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    plain = plain_environment(tmp_path, PATH=os.environ["PATH"])
    return Terminal(NO_SERVERS, plain, [(r"\bmail\.example\.com\b", "localhost")])


def block(text: str) -> Block:
    return Block("docs/page.md", 7, "sh", text)


def test_variables_and_folder_last_from_block_to_block(terminal: Terminal, tmp_path: Path) -> None:
    terminal.follow(block("export WHO=anna\nmkdir there\ncd there\n"))
    terminal.follow(block('echo "$WHO" > who\n'))
    assert (tmp_path / "there" / "who").read_text() == "anna\n"


def test_a_command_that_fails_is_told_with_its_page(terminal: Terminal) -> None:
    with pytest.raises(BlockFailed, match=r"(?s)docs/page\.md:7.*ended with 1: false"):
        terminal.follow(block("true\nfalse\ntrue\n"))


def test_a_command_that_fails_in_a_pipe_is_noticed(terminal: Terminal) -> None:
    with pytest.raises(BlockFailed):
        terminal.follow(block("false | cat\n"))


def test_a_page_may_say_how_a_command_ends(terminal: Terminal) -> None:
    terminal.follow(block("(exit 2)   # ends with 2\necho on\n"))
    with pytest.raises(BlockFailed):
        terminal.follow(block("true   # ends with 2\necho on\n"))


def test_hosts_are_replaced_in_a_command_of_several_lines(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.follow(
        block("echo imaps://mail.example.com \\\n    smtps://mail.example.com > said\n")
    )
    assert (tmp_path / "said").read_text() == "imaps://localhost smtps://localhost\n"


def test_what_make_cannot_do_is_noticed(terminal: Terminal) -> None:
    terminal.follow(block("make test    # everything\n"))
    with pytest.raises(BlockFailed, match="No rule to make target"):
        terminal.follow(block("make tea\n"))


def test_nothing_of_whoever_runs_the_tests_is_in_a_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILROOM_OBJECTS", "/somewhere")
    terminal.follow(block('test -z "$MAILROOM_OBJECTS"\n'))
