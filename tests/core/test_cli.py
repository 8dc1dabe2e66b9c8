"""A person's mistake: one line on standard error with its remedy, exit code 2, no traceback."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mailroom import cli


def mailroom(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAILROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "mailroom", *arguments],
        env={**bare, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_service_that_is_not_installed_is_refused_with_those_that_are() -> None:
    done = mailroom("serve", "postman")
    assert done.returncode == 2
    assert done.stderr.startswith("mailroom: service 'postman' is not installed: give one of ")
    assert done.stderr.count("\n") == 1


def test_missing_settings_are_told_all_at_once_in_one_line() -> None:
    done = mailroom("migrate")
    assert done.returncode == 2
    assert "MAILROOM_OWNER_DATABASE_URL is not set" in done.stderr
    assert "MAILROOM_OWNER_BROKER_URL is not set" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_does_not_answer_is_told_without_a_traceback(tmp_path: Path) -> None:
    keys = tmp_path / "tags"
    keys.write_text(f"1:{'ab' * 32}")
    done = mailroom(
        "ticket",
        "list",
        MAILROOM_TICKETING_DATABASE_URL="postgresql://mailroom_ticketing:x@127.0.0.1:1/mailroom",
        MAILROOM_TICKETING_BROKER_URL="amqp://ticketing:x@127.0.0.1:1/mailroom",
        MAILROOM_TICKETING_TAG_KEYS_FILE=str(keys),
    )
    assert done.returncode == 1
    assert "('127.0.0.1', 1): is the server running" in done.stderr
    assert done.stderr.count("\n") == 1


def test_garbage_is_collected_once_the_command_is_loaded() -> None:
    """A relay that runs for months leaks memory without."""
    program = (
        "import atexit, gc, sys; from mailroom.__main__ import main;"
        " atexit.register(lambda: print(gc.isenabled())); sys.argv[1:] = ['serve', 'postman'];"
        " main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "True\n")


def test_help_names_every_command() -> None:
    told = mailroom("--help").stdout
    for command in ("account", "migrate", "parked", "serve", "ticket", "trace"):
        assert f"\n  {command} " in told


def test_a_broken_extension_is_told_and_disturbs_no_other_command() -> None:
    broken = EntryPoint("letters", "no_such_package:letters", "mailroom.commands")
    command = cli._loaded(broken)
    assert "no_such_package:letters cannot be loaded" in command.get_short_help_str(200)
    with pytest.raises(click.ClickException, match="mend or remove its package"):
        CliRunner().invoke(command, standalone_mode=False, catch_exceptions=False)
