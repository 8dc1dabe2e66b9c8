"""Runs of pytest, each a fork of a process that has imported the libraries: a second less a run.

Invariant: nothing of the project is imported before the fork, so that each run imports all of it
from its own folder; a run in which a module of it came from elsewhere ends with `STRANGE`.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STRANGE = 90
_TOO_LATE = 91
_PROJECT = ("mailroom", "tests", "deploy")
"""How the names of its packages begin."""
_LIBRARIES = (
    "aio_pika",
    "aioimaplib",
    "aiosmtplib",
    "alembic.command",
    "asyncpg",
    "faststream.rabbit",
    "jinja2",
    "nacl.public",
    "prometheus_client",
    "pydantic_settings",
    "pytest",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "trustme",
    "turbohtml",
)


class TakesTooLong(Exception):
    """A run did not end in time, and was killed with all that it had started."""


class NotTheCopy(Exception):
    """A module of the project came from elsewhere than the folder of the run."""


@dataclass(frozen=True)
class Forks:
    """A process that runs one pytest after another."""

    process: "subprocess.Popen[str]"

    def run(
        self, folder: Path, environment: dict[str, str], arguments: Sequence[str], within: float
    ) -> str:
        """Run pytest in `folder`, whose packages are imported, for so many seconds; what it said.

        Raises TakesTooLong, NotTheCopy.
        """
        said = folder / "said.txt"
        asked, answers = self.process.stdin, self.process.stdout
        if asked is None or answers is None:  # for the type checker: both are pipes
            raise OSError("no pipes")
        job = [within, str(folder), str(said), environment, list(arguments)]
        print(json.dumps(job), file=asked, flush=True)
        code = int(answers.readline())
        if code == _TOO_LATE:
            raise TakesTooLong(f"no end within {within:g} s")
        if code == STRANGE:
            raise NotTheCopy(said.read_text("utf-8", "replace").splitlines()[-1])
        return said.read_text("utf-8", "replace")


@contextmanager
def forking() -> Iterator[Forks]:
    """Begin to import; the end of its input ends it."""
    with subprocess.Popen(
        # By its path: as a module it would bring the packages around it.
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Forks(process)


def _serve() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for asked in sys.stdin:
        within, *job = json.loads(asked)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _run(*job)
            finally:
                os._exit(code)
        print(_code_of(pid, within), flush=True)


def _code_of(pid: int, within: float) -> int:
    ended, in_time = os.pidfd_open(pid), False
    try:
        in_time = bool(select.select([ended], [], [], within)[0])
    finally:
        os.close(ended)
        if not in_time:  # or Ctrl-C
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if in_time else _TOO_LATE


def _run(folder: str, said: str, environment: dict[str, str], arguments: list[str]) -> int:
    import pytest  # noqa: PLC0415 -- imported before, unless this module is only asked

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(file, stream)
    sys.path[:1] = environment["PYTHONPATH"].split(os.pathsep)
    code = int(pytest.main(arguments))
    files = {
        name: getattr(module, "__file__", None)  # a mere folder of modules has none
        for name, module in sys.modules.items()
        if name.partition(".")[0].startswith(_PROJECT)
    }
    strangers = [
        f"{name} is of {file}"
        for name, file in files.items()
        if file and not file.startswith(f"{folder}/")
    ]
    print(*strangers, sep="\n", flush=True)
    return STRANGE if strangers else code


if __name__ == "__main__":
    _serve()
