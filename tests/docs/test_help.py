"""Every command tells what it does, and every option what it is for."""

from collections.abc import Iterator

import click
import pytest

from mailroom.cli import mailroom


def commands(
    command: click.Command = mailroom, path: tuple[str, ...] = ("mailroom",)
) -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name, groups too."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(*each, id=each[0]) for each in commands()]
)
def test_a_command_tells_what_it_does(name: str, command: click.Command) -> None:
    assert command.help, f"{name} has no docstring"
    assert command.help.strip().partition("\n")[0].endswith((".", ":")), command.help
    silent = [
        each.opts[0] for each in command.params if isinstance(each, click.Option) and not each.help
    ]
    assert not silent, f"{name} says nothing of {', '.join(silent)}"
