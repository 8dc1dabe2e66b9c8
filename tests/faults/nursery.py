"""Where services are born: a process that has imported them all, and forks for each one to start.

Nearly all that it costs to start a service is to import it, and these tests start hundreds. What is
born here is guarded, is told its environment, and ends as what is started by its command does; how
that starts, and what it weighs, is measured on processes of their own.

It runs as `python -m tests.faults.nursery`: a line of its input is a birth, one of its output the
guard's pid; and it ends with its input.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local import guard, guarded
from mailroom import cli, crashpoints, serve_command  # noqa: F401 -- the command has it all
from mailroom.service import named

EXIT_CODE = "exit_code.{pid}"
"""What the guard of this pid leaves in its folder."""


@dataclass(frozen=True)
class Birth:
    """What to start, and where."""

    folder: str
    name: str
    """Of the service."""
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Born:
    """The guard of what was born, to look at as at a process of one's own."""

    folder: Path
    pid: int

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        left = self.folder / EXIT_CODE.format(pid=self.pid)
        return int(left.read_text()) if left.exists() else None


@dataclass(frozen=True)
class Nursery:
    """The process, as the tests see it."""

    process: "subprocess.Popen[str]"

    def bear(self, folder: Path, name: str, environment: Mapping[str, str]) -> Born:
        """Start a service, as `mailroom serve NAME` does."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests
        assert answers
        requests.write(json.dumps(asdict(Birth(str(folder), name, environment))) + "\n")
        requests.flush()
        born = Born(folder, int(answers.readline()))
        guarded.wait(
            folder,
            "guarded",
            lambda: born.poll() is not None or guarded.guard_pid(folder) is not None,
        )
        return born


@contextmanager
def nursery() -> Iterator[Nursery]:
    """One, for as long as the block lasts; what was born lives as long as its lifeline is held."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in the terminal is for the tests.
        start_new_session=True,
    ) as process:
        yield Nursery(process)


class _IsService(BaseException):
    """Raised in the process that is to become the service."""


def main() -> None:
    """Bear until the input ends."""
    named(["all"])
    # What nobody looks through is not copied either.
    gc.freeze()
    # A guard that has ended leaves no zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        birth = Birth(**json.loads(line))
        pid = os.fork()
        if not pid:
            _be_guard(birth)
            return
        print(pid, flush=True)


def _be_guard(birth: Birth) -> None:
    """Guard the service; in the process that it forks, be the service."""
    folder = Path(birth.folder)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(guarded.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number, handle in enumerate((nothing, log, log)):
        os.dup2(handle, number)
    try:
        code = guard.watch(folder, _fork, signal.SIGTERM, signal.SIGTERM)
    except _IsService:
        code = None
    if code is None:
        # Not within `except`: each error of the service would tell of it.
        _be_service(birth)
        return
    left = folder / EXIT_CODE.format(pid=os.getpid())
    # Never empty, not for a moment.
    written = left.with_suffix(".new")
    written.write_text(str(code))
    written.replace(left)


def _fork() -> int:
    pid = os.fork()
    if not pid:
        raise _IsService
    return pid


def _be_service(birth: Birth) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(birth.environment)
    # The one module that looks into the environment when it is imported.
    importlib.reload(crashpoints)
    sys.argv = ["mailroom", "serve", birth.name]
    cli.main()


if __name__ == "__main__":
    main()
