"""What tests of the directory share: an installation's environment, its commands, its roles."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic_core import Url
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import database as connections
from mailroom_directory import commands, keys
from tests.installation import Database

As = Callable[[str], AbstractAsyncContextManager[AsyncConnection]]
PASSWORD = "hunter2 secret"


@pytest.fixture
def as_(database: Database) -> As:
    """A transaction with a service's own role: `async with as_("router") as tx`."""

    @asynccontextmanager
    async def transaction(service: str) -> AsyncIterator[AsyncConnection]:
        engine = connections.engine(Url(database.url(service)), "test", connections=1)
        try:
            async with engine.begin() as tx:
                yield tx
        finally:
            await engine.dispose()

    return transaction


class Refused(AssertionError):
    """A command ended with this line and exit code."""

    def __init__(self, exit_code: int, line: str) -> None:
        self.exit_code, self.line = exit_code, line
        super().__init__(f"exit code {exit_code}: {line}")


@dataclass(frozen=True)
class Mailroom:
    """The directory's commands in an environment, as `mailroom …` runs them."""

    environment: dict[str, str]
    keys: keys.Made

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What a command prints on standard output. Raises Refused."""
        group: click.Group = getattr(commands, arguments[0])
        result = CliRunner(env=self.environment).invoke(group, arguments[1:], input=stdin)
        if result.exit_code:
            raise Refused(result.exit_code, result.stderr or repr(result.exception))
        return result.stdout

    def shows(self, kind: str, name: str) -> dict[str, Any]:
        """What `show --json` prints."""
        shown: dict[str, Any] = json.loads(self(kind, "show", name, "--json"))
        return shown


@pytest.fixture
def mailroom(database: Database, tmp_path: Path) -> Mailroom:
    """The commands on a database of their own, with keys to seal to."""
    made = keys.make(tmp_path / "keys")
    environment = {
        "MAILROOM_OBJECTS": str(tmp_path / "objects"),
        "MAILROOM_DIRECTORY_DATABASE_URL": database.url("directory"),
        "MAILROOM_DIRECTORY_BROKER_URL": "amqp://directory@127.0.0.1/none",
        "MAILROOM_DIRECTORY_SEAL_KEY_FILE": str(made.public),
    }
    return Mailroom(environment, made)
