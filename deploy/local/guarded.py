"""The launcher's side of the guards: start one, tell it something, see what it guards.

Invariant: a server is always started under a guard, and its lifeline is held by the launcher alone,
so that also what another process starts again ends with the launcher.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Protocol

from deploy.local import guard

LOG = "log"


@dataclass(frozen=True)
class Program:
    """How to run one server."""

    command: Sequence[str]
    """Runs in the foreground."""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """Drop to this user; None is who runs the launcher."""
    as_root: bool = False
    """By `sudo -n` where the launcher is not root; the environment is then not passed on."""
    stop_signal: int = SIGTERM
    """To end in order."""
    end_signal: int = SIGKILL
    """When the launcher has ended; within a second SIGKILL follows."""


class Process(Protocol):
    """A process as who started it sees it."""

    @property
    def pid(self) -> int:
        """What it is known by."""

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""


@dataclass(frozen=True)
class Guarded:
    """A guard just started, as the process that started it sees it."""

    folder: Path
    process: Process

    @property
    def ended(self) -> bool:
        """Whether the guard, and with it the server, is gone."""
        return self.process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """The server's, when it has ended: 128 + n where signal n ended it."""
        return self.process.poll()


class Unresponsive(Exception):
    """A guard or a server did not do what it was told within its time."""

    def __init__(self, folder: Path, wanted: str, seconds: float) -> None:
        super().__init__(f"{folder}: not {wanted} after {seconds:g} s")
        self.folder = folder
        self.wanted = wanted


@contextmanager
def lifelines(folders: Sequence[Path]) -> Iterator[None]:
    """Hold the lifeline of each folder; at the end let go, and wait until everything has ended.

    A child made by `fork` without `exec` shares them: it must not outlive its parent.
    """
    with ExitStack() as ended, ExitStack() as held:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            fifo = folder / guard.LIFELINE
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo, 0o600)
            # Also when Ctrl-C or an error is what ends it: after the lifelines, for they end first.
            ended.callback(wait_until_ended, folder)
            held.callback(os.close, os.open(fifo, os.O_RDWR | os.O_CLOEXEC))
        yield


def launch(folder: Path, program: Program) -> Guarded:
    """Start `program` under a guard, which can be told; its output goes to the folder's `log`."""
    options = [f"--stop-signal={program.stop_signal:d}", f"--end-signal={program.end_signal:d}"]
    if program.user is not None:
        options.append(f"--user={program.user}")
    sudo = ["sudo", "-n"] if program.as_root and os.geteuid() else []
    # Not `python -m`: by sudo, and without site-packages, it starts in a few milliseconds.
    python = [sys.executable, "-I", "-S", str(Path(guard.__file__))]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*sudo, *python, *options, str(folder), "--", *program.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(program.environment),
            # Ctrl-C in the terminal is for the launcher, which then ends the servers.
            start_new_session=True,
        )
    # Its parent reaps it, whenever it ends: pid 1 of a container may not.
    threading.Thread(target=process.wait, daemon=True).start()
    guarded = Guarded(folder, process)
    # Told to stop before it listens, it would go on.
    wait(folder, "guarded", lambda: guarded.ended or guard_pid(folder) is not None)
    return guarded


def may_sudo() -> bool:
    """Whether sudo gives root without asking for a password."""
    if shutil.which("sudo") is None:
        return False
    return not subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode


def tell(folder: Path, command: str) -> None:
    """Say stop, kill, freeze or thaw to the guard. Nothing happens where none runs."""
    if guard_pid(folder) is None:
        return
    lifeline = os.open(folder / guard.LIFELINE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(lifeline, f"{command}\n".encode("ascii"))
    finally:
        os.close(lifeline)


def guard_pid(folder: Path) -> int | None:
    """The guard's pid, or None if none runs."""
    with suppress(FileNotFoundError, ValueError):
        pid = int((folder / guard.PID_FILE).read_text(encoding="ascii"))
        if Path("/proc", str(pid)).exists():
            return pid
    return None


def server_processes(folder: Path) -> dict[int, str]:
    """Pid → state of the server's processes, zombies left out."""
    pid = guard_pid(folder)
    alive = {} if pid is None else guard.descendants(pid)
    return {child: state for child, state in alive.items() if state not in "ZX"}


def wait(folder: Path, wanted: str, condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for `condition`. Raises Unresponsive."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unresponsive(folder, wanted, seconds)
        time.sleep(0.01)


def wait_until_ended(folder: Path) -> None:
    """Wait until the guard, and with it the server, is gone. Raises Unresponsive."""
    wait(folder, "ended", lambda: guard_pid(folder) is None)
