"""Runs an installation: keys, migration, the services as one guarded process, and its commands.

Invariant: commands are run as a person runs them, in a process of their own with the installation's
environment; the services end with the launcher, as the servers do.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from deploy.local import guarded
from deploy.local.addresses import Servers
from deploy.local.installation import Place, install, tag_keys
from deploy.local.ports import free_ports
from mailroom.service import named

READY_WITHIN = 30.0


@dataclass(frozen=True)
class Operated:
    """An installation that can be operated."""

    servers: Servers
    folder: Path
    environment: Mapping[str, str]
    program: Sequence[str] = (sys.executable, "-m", "mailroom")
    """What its commands begin with."""

    @property
    def log(self) -> Path:
        """What the services say."""
        return self.folder / "mailroom" / guarded.LOG


class CommandFailed(Exception):
    """A command of Mailroom ended with another exit code than 0."""

    def __init__(self, arguments: Sequence[str], code: int, said: str) -> None:
        self.code = code
        super().__init__(f"mailroom {' '.join(arguments)} ended with {code}: {said.strip()}")


def command(it: Operated, *arguments: str, text: str = "") -> str:
    """What `mailroom ARGUMENTS` prints, given `text` on standard input. Raises CommandFailed."""
    done = subprocess.run(
        [*it.program, *arguments],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **it.environment},
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise CommandFailed(arguments, done.returncode, done.stderr or done.stdout)
    return done.stdout


def answer(it: Operated, *arguments: str) -> Any:
    """The one JSON object that `mailroom ARGUMENTS --json` prints."""
    return json.loads(command(it, *arguments, "--json"))


def rows(it: Operated, *arguments: str) -> list[Any]:
    """The JSON objects, one a line, that `mailroom ARGUMENTS --json` prints."""
    return [json.loads(line) for line in command(it, *arguments, "--json").splitlines()]


def prepared(servers: Servers) -> Operated:
    """Install on running servers: roles, vhost, keys, tables, queues."""
    place = Place(servers.folder)
    it = with_keys(servers, place, install(servers, place, named(["all"]), publishers=["erp"]))
    command(it, "migrate")
    return it


def with_keys(
    servers: Servers,
    place: Place,
    environment: Mapping[str, str],
    run: Callable[..., str] = command,
) -> Operated:
    """Make the keys of an installation, and give its probes a port.

    `run` runs a command of Mailroom as `command` does; another way may be a cheaper one.
    """
    http = f"127.0.0.1:{free_ports(1)[0]}"
    it = Operated(servers, place.folder, {**environment, "MAILROOM_HTTP": http})
    run(it, "account", "keys", str(place.folder / "keys"))
    tag_keys(place.folder / "keys" / "tags")
    return it


@contextmanager
def served(
    it: Operated, *names: str, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Services, all or those named, in one process, ready; they end at the exit or with us.

    `meanwhile` is done while they start, in any order with what they do: that is theirs to stand.
    """
    folder = it.folder / "-".join(("mailroom", *names))
    with guarded.lifelines([folder]):
        program = guarded.Program(
            [sys.executable, "-m", "mailroom", "serve", *(names or ["all"])],
            {**os.environ, **it.environment},
            end_signal=SIGTERM,
        )
        started = guarded.launch(folder, program)
        meanwhile()
        guarded.wait(folder, "ready", lambda: started.ended or _ready(it.environment), READY_WITHIN)
        if started.ended:
            said = (folder / guarded.LOG).read_text()[-2000:]
            raise CommandFailed(["serve", *names], 1, said)
        yield
        guarded.tell(folder, "stop")
        guarded.wait_until_ended(folder)


def _ready(environment: Mapping[str, str]) -> bool:
    with suppress(urllib.error.URLError, OSError):
        url = f"http://{environment['MAILROOM_HTTP']}/readyz"
        with urllib.request.urlopen(url, timeout=2) as told:
            return bool(told.status == 200)
    return False
