"""`mailroom …`: finds the commands of all installed services and runs them.

Invariant: a person's mistake is answered by one line on standard error that names field, value and
remedy, and by exit code 2; never by a traceback.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import click
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import database, settings
from mailroom.printing import one_line

T = TypeVar("T")
S = TypeVar("S", bound=settings.ServiceSettings)
_SHOWN = 120
"""Characters of a refused value."""


class Refusal(click.ClickException):
    """A person's mistake, told in one line."""

    exit_code = 2


def refuse(field: str, value: object, remedy: str) -> Refusal:
    """To raise: `mailroom: <field> '<value>': <remedy>`, exit code 2. A long value is cut short."""
    told = str(value)
    shown = told if len(told) <= _SHOWN else f"{told[:_SHOWN]}…"
    return Refusal(f"{field} {shown!r}: {remedy}")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)


@contextmanager
def importing() -> Iterator[None]:
    """To import in: nothing of it is garbage, and looking took a quarter of the time to start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@asynccontextmanager
async def connected(of: type[S]) -> AsyncIterator[tuple[AsyncConnection, S]]:
    """One transaction with a service's own role: committed at the end, rolled back on an error."""
    loaded = settings.load(of)
    # A person may be asked something meanwhile.
    connections = database.engine(
        loaded.database_url, "mailroom command", connections=1, idle_within=600
    )
    try:
        async with connections.begin() as tx:
            yield tx, loaded
    finally:
        await connections.dispose()


class _Commands(click.Group):
    """Commands from the entry points `mailroom.commands`, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted."""
        found = {point.name for point in entry_points(group="mailroom.commands")}
        return sorted(found | set(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one that is asked for."""
        for point in entry_points(group="mailroom.commands", name=cmd_name):
            return _loaded(point)
        return super().get_command(ctx, cmd_name)


def _loaded(point: EntryPoint) -> click.Command:
    """The command, or where a package's is broken, one that says so: help works all the same."""
    try:
        with importing():
            command: click.Command = point.load()
    except (ImportError, AttributeError) as broken:
        fault = f"{point.value} cannot be loaded: {broken}"

        def tell() -> None:
            raise refuse("command", point.name, f"{fault}; mend or remove its package")

        return click.Command(point.name, callback=tell, short_help=fault)
    return command


@click.command(cls=_Commands)
@click.version_option(package_name="mailroom", message="%(version)s")
def mailroom() -> None:
    """The e-mail backbone of an ERP.

    Exit codes: 0 done; 1 a server is away, or what was asked for is not so; 2 something is wrong
    with the call or the settings, and you can mend it; 130 stopped by Ctrl-C.
    """


def main() -> None:
    """The console script: one line and exit code 2 for what a person can mend."""
    try:
        mailroom(prog_name="mailroom", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as help_:
        help_.show()
        sys.exit(2)
    except click.Abort:
        _end("stopped", 130)
    except click.ClickException as refusal:
        _end(_mistake(refusal), 2)
    except settings.SettingsRefused as refusal:
        _end(str(refusal), 2)
    except DBAPIError as failed:
        _end(f"database: {failed.orig}{_remedy_of(failed)}", 1)
    except ConnectionError as failed:
        _end(f"{failed}: is the server running, and its URL in the environment right?", 1)
    except TimeoutError as failed:
        _end(f"{failed or 'no answer in time'}: is the server running, and its URL right?", 1)
    except OSError as failed:
        _end(str(failed), 1)


def _mistake(refusal: click.ClickException) -> str:
    told = refusal.format_message()
    if isinstance(refusal, click.UsageError) and refusal.ctx is not None:
        return f"{told.rstrip('.')}; `{refusal.ctx.command_path} --help` says what to give"
    return told


def _remedy_of(failed: DBAPIError) -> str:
    unprepared = ("42P01", "3F000")  # undefined_table, invalid_schema_name
    is_unprepared = getattr(failed.orig, "sqlstate", "") in unprepared
    return ": run `mailroom migrate`" if is_unprepared else ""


def _end(line: str, code: int) -> None:
    click.echo(f"mailroom: {one_line(line)}", err=True)
    sys.exit(code)
