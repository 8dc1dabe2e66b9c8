"""A person's mistake: one line on standard error with its remedy, exit code 2, no traceback."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol

import asyncpg
import click
import pytest
from click.testing import CliRunner

from mailroom import cli
from mailroom_directory import keys
from tests.installation import Database


class Mailroom(Protocol):
    """Runs `mailroom` with these arguments and variables."""

    def __call__(
        self, *arguments: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]": ...


@pytest.fixture
def mailroom(programs: Path) -> Mailroom:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAILROOM_")}

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [programs / "mailroom", *arguments],
            env={**bare, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_service_that_is_not_installed_is_refused_with_those_that_are(mailroom: Mailroom) -> None:
    done = mailroom("serve", "postman")
    assert done.returncode == 2
    assert done.stderr.startswith("mailroom: service 'postman' is not installed: give one of ")
    assert done.stderr.count("\n") == 1


def test_missing_settings_are_told_all_at_once_in_one_line(mailroom: Mailroom) -> None:
    done = mailroom("migrate")
    assert done.returncode == 2
    assert "MAILROOM_OWNER_DATABASE_URL is not set" in done.stderr
    assert "MAILROOM_OWNER_BROKER_URL is not set" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_does_not_answer_is_told_without_a_traceback(
    mailroom: Mailroom, tmp_path: Path
) -> None:
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


@pytest.fixture
def serving_fetcher(tmp_path: Path) -> dict[str, str]:
    """What `mailroom serve fetcher` needs; nothing of it is asked before the settings are right."""
    made = keys.make(tmp_path / "keys")
    return {
        "MAILROOM_OBJECTS": str(tmp_path / "objects"),
        "MAILROOM_FETCHER_DATABASE_URL": "postgresql://mailroom_fetcher:x@127.0.0.1:1/mailroom",
        "MAILROOM_FETCHER_BROKER_URL": "amqp://fetcher:x@127.0.0.1:1/mailroom",
        "MAILROOM_FETCHER_UNSEAL_KEYS_FILE": str(made.private),
    }


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MAILROOM_FETCHER_UNSEAL_KEYS_FILE", "/nowhere", "key file /nowhere: No such file"),
        ("MAILROOM_TLS_CA_FILE", "/nowhere", "name a PEM file of certificates"),
        ("MAILROOM_OBJECTS", "s3://bucket", "give the path of a folder, or file:///path"),
        ("MAILROOM_OBJECTS", "", "at least 1 character"),
        ("MAILROOM_HTTP", "127.0.0.1:99999", "give each process a host:port of its own"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_it_before_anything_starts(
    mailroom: Mailroom, serving_fetcher: dict[str, str], variable: str, value: str, said: str
) -> None:
    done = mailroom("serve", "fetcher", **{**serving_fetcher, variable: value})
    assert done.returncode == 2
    assert variable in done.stderr
    assert said in done.stderr


def test_files_and_variables_of_all_services_are_told_at_once(
    mailroom: Mailroom,
    serving_fetcher: dict[str, str],
) -> None:
    wrong = {"MAILROOM_FETCHER_UNSEAL_KEYS_FILE": "/nowhere", "MAILROOM_TLS_CA_FILE": "/nothing"}
    done = mailroom("serve", "fetcher", "router", **{**serving_fetcher, **wrong})
    assert "/nowhere" in done.stderr
    assert "/nothing" in done.stderr
    assert "MAILROOM_ROUTER_DATABASE_URL is not set" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_another_process_has_is_told(
    mailroom: Mailroom, serving_fetcher: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mailroom("serve", "fetcher", **{**serving_fetcher, "MAILROOM_HTTP": address})
    assert done.returncode == 2
    assert f"MAILROOM_HTTP is '{address}': Address already in use" in done.stderr


def test_a_database_that_is_not_prepared_is_told_with_what_prepares_it(
    mailroom: Mailroom,
    database: Database,
) -> None:
    url = database.url("ticketing")
    asyncio.run(_drop_schema(database))
    done = mailroom(
        "ticket",
        "list",
        MAILROOM_TICKETING_DATABASE_URL=url,
        MAILROOM_TICKETING_BROKER_URL="amqp://ticketing:x@127.0.0.1:1/mailroom",
        # Which it does not read: nothing is signed.
        MAILROOM_TICKETING_TAG_KEYS_FILE="/nowhere",
    )
    assert done.returncode == 1
    assert "run `mailroom migrate`" in done.stderr


async def _drop_schema(database: Database) -> None:
    superuser = await asyncpg.connect(database.superuser_url)
    await superuser.execute("DROP SCHEMA ticketing CASCADE")
    await superuser.close()


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


def test_whoever_misspells_a_command_is_told_what_lists_them(mailroom: Mailroom) -> None:
    done = mailroom("tickets")
    assert (done.returncode, done.stdout) == (2, "")
    words = "No such command 'tickets'; `mailroom --help` says what to give"
    assert done.stderr == f"mailroom: {words}\n"


def test_help_names_every_command(mailroom: Mailroom) -> None:
    told = mailroom("--help").stdout
    for command in ("account", "migrate", "parked", "serve", "ticket", "trace"):
        assert f"\n  {command} " in told


def test_no_servers_words_drive_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: object) -> None:
        raise ConnectionError("no \x1b[2J\r\nhere")

    monkeypatch.setattr(cli, "mailroom", refused)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.startswith("mailroom: no ·[2J here: ")


def _all_below(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _all_below(command, f"{path} {name}")


def test_a_list_of_commands_says_what_each_does_and_breaks_off_in_none() -> None:
    longest = 45  # what is left beside the longest name on a terminal of 65 columns
    told = {name: each.get_short_help_str(longest) for name, each in _all_below(cli.mailroom)}
    assert len(told) > 50
    assert [name for name, words in told.items() if not words or words.endswith("...")] == []


def test_help_says_what_may_be_given_more_than_once() -> None:
    options = [
        (name, option)
        for name, command in _all_below(cli.mailroom)
        for option in command.params
        if isinstance(option, click.Option) and option.multiple
    ]
    assert options
    assert [name for name, option in options if "repeatable" not in (option.help or "")] == []


def test_a_broken_extension_is_told_and_disturbs_no_other_command() -> None:
    broken = EntryPoint("letters", "no_such_package:letters", "mailroom.commands")
    command = cli._loaded(broken)
    assert "no_such_package:letters cannot be loaded" in command.get_short_help_str(200)
    with pytest.raises(click.ClickException, match="mend or remove its package"):
        CliRunner().invoke(command, standalone_mode=False, catch_exceptions=False)
