"""The guard: one process beside each server, which ends the server and all it started.

Invariant: no process of the server outlives the launcher, however the launcher ends. The launcher
holds the writing end of the FIFO `lifeline`; its end, even by SIGKILL, is end-of-file here. Killing
a process group would not do: Postfix's master takes a session of its own, Dovecot's master leaves
`imap` and `auth` behind, RabbitMQ's shell leaves beam, and beam leaves epmd. The guard is the
subreaper of all of them, so that each stays its descendant in /proc until the guard has reaped it.

It runs as `python -I -S guard.py FOLDER …`, perhaps by sudo, so it imports only Python's own.
"""

import argparse
import ctypes
import os
import pwd
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
OPEN_FILES = 16384
STOP_GRACE = 30.0
END_GRACE = 1.0

LIFELINE = "lifeline"
"""A FIFO. End-of-file ends the server; a line of it is a command: stop, kill, freeze, thaw."""
PID_FILE = "guard.pid"
"""There exactly while the guard lives."""


def descendants(ancestor: int) -> dict[int, str]:
    """Pid → state (a letter of proc(5); Z is a zombie) of all that `ancestor` started."""
    states: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for pid, parent, state in _processes():
        states[pid] = state
        children.setdefault(parent, []).append(pid)
    found: dict[int, str] = {}
    queue = list(children.get(ancestor, ()))
    while queue:
        pid = queue.pop()
        found[pid] = states[pid]
        queue.extend(children.get(pid, ()))
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # A process may end between the listing and the reading.
        with suppress(FileNotFoundError, ProcessLookupError):
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            # The second field is the program's name in brackets, and may hold brackets itself.
            state, parent = stat.rpartition(")")[2].split()[:2]
            yield int(entry.name), int(parent), state


class Guard:
    """Runs one server until its lifeline ends, it is told to stop, or it ends by itself."""

    def __init__(self, server: int, lifeline: int, wakeup: int) -> None:
        self._main = server
        self._lifeline = lifeline
        self._wakeup = wakeup
        self._poll = select.poll()
        self._poll.register(lifeline, select.POLLIN)
        self._poll.register(wakeup, select.POLLIN)
        self._main_ended = False
        self._main_status = 0

    def run(self, stop_signal: int, end_signal: int) -> int:
        """Stay until nothing of the server is left; its exit code.

        As a shell tells it: 128 + n where signal n ended it.
        """
        ending = False
        while not ending and not self._main_ended:
            self._poll.poll()
            ending = self._signalled()
            self._reap()
            ending = self._told(stop_signal, end_signal) or ending
        self._kill_all()
        code = os.waitstatus_to_exitcode(self._main_status)
        return code if code >= 0 else 128 - code

    def _signalled(self) -> bool:
        """Whether somebody ended the guard itself, which is meant for the server."""
        with suppress(BlockingIOError):
            return bool({signal.SIGTERM, signal.SIGINT} & set(os.read(self._wakeup, 4096)))
        return False

    def _told(self, stop_signal: int, end_signal: int) -> bool:
        """Obey what stands in the lifeline; True if everything is to end now."""
        try:
            said = os.read(self._lifeline, 4096)
        except BlockingIOError:
            return False
        if not said:
            self._signal_main(end_signal, END_GRACE)
            return True
        for command in said.decode("ascii").split():
            if command == "stop":
                self._signal_main(stop_signal, STOP_GRACE)
                return True
            if command == "kill":
                return True
            if command == "freeze":
                self._freeze_all()
            else:
                self._signal_all(signal.SIGCONT)
        return False

    def _signal_main(self, number: int, grace: float) -> None:
        """Let the server end in order, for at most `grace` seconds."""
        if number == signal.SIGKILL:
            return
        with suppress(ProcessLookupError):
            os.kill(self._main, number)
        self._wait(lambda: self._main_ended, grace)

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _freeze_all(self) -> None:
        """SIGSTOP until all stand still: what forks meanwhile is met in the next round."""

        def all_stand_still() -> bool:
            self._signal_all(signal.SIGSTOP)
            # Twice: what is born between the listing and the reading of its parent is not listed.
            return all(set(descendants(os.getpid()).values()) <= set("TZX") for _ in range(2))

        self._wait(all_stand_still, STOP_GRACE)

    def _kill_all(self) -> None:
        """SIGKILL until nothing is left: what forks meanwhile is met in the next round."""

        def none_left() -> bool:
            self._signal_all(signal.SIGKILL)
            return not descendants(os.getpid())

        self._wait(none_left, STOP_GRACE)

    def _wait(self, ended: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ended() and time.monotonic() < deadline:
            time.sleep(0.005)
            self._reap()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._main:
                    self._main_ended, self._main_status = True, status


def _held(lifeline: int) -> bool:
    """Whether a launcher holds the other end; what was said to an earlier guard is dropped."""
    with suppress(BlockingIOError):
        while os.read(lifeline, 4096):
            pass
        return False
    return True


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _wakeup_on_signals() -> int:
    """A descriptor that gets a byte, the signal's number, for each signal that matters."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writable)
    return readable


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def watch(folder: Path, start: Callable[[], int], stop_signal: int, end_signal: int) -> int:
    """Guard the server whose pid `start` returns, until nothing of it is left; its exit code."""
    _become_subreaper()
    _raise_file_limit()
    wakeup = _wakeup_on_signals()
    lifeline = os.open(folder / LIFELINE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not _held(lifeline):
        return 0
    server = start()
    pid_file = folder / PID_FILE
    try:
        pid_file.write_text(str(os.getpid()), encoding="ascii")
    except OSError:
        # A full disk, say: nobody would know of the server.
        os.kill(server, signal.SIGKILL)
        raise
    try:
        return Guard(server, lifeline, wakeup).run(stop_signal, end_signal)
    finally:
        pid_file.unlink(missing_ok=True)


def _start(command: Sequence[str], folder: Path, user: str | None) -> int:
    account = None if user is None else pwd.getpwnam(user)
    server = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=account and [],
    )
    # Else it would be reaped when this object goes, and the guard wait for it for ever.
    server.returncode = 0
    return server.pid


def main() -> None:
    """Guard the command given on the command line."""
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--user", help="drop to this user")
    parser.add_argument("--stop-signal", type=int, default=signal.SIGTERM, help="on command: stop")
    parser.add_argument("--end-signal", type=int, default=signal.SIGKILL, help="on end-of-file")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    start = partial(_start, given.command, given.folder, given.user)
    sys.exit(watch(given.folder, start, given.stop_signal, given.end_signal))


if __name__ == "__main__":
    main()
