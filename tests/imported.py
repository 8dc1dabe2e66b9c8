"""`mailroom` for tests, by forks of a process that has imported it: 0.1 s and not 0.7 each.

Invariant: a command runs in a process of its own, with arguments, variables, folder and standard
streams of whoever called it; it hears SIGTERM and SIGINT that its caller's process gets, ends with
it if that is killed, and that process ends as it does, by exit code or signal.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from importlib.metadata import entry_points
from pathlib import Path

from mailroom import cli, crashpoints
from mailroom.service import named

ROOT = Path(__file__).parents[1]

_CALLER = """\
#!{python} -IS
import json, os, signal, socket, sys

asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asked.connect({path!r})
told = json.dumps([["mailroom", *sys.argv[1:]], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(asked, [told], [0, 1, 2])
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: asked.send(str(number).encode()))
code = int(asked.recv(16) or 1)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""
"""What runs as `mailroom`, in 20 ms."""


@contextmanager
def imported(folder: Path) -> Iterator[Path]:
    """A folder for the PATH, in which is `mailroom`."""
    path, programs = folder / "imported", folder / "programs"
    programs.mkdir()
    program = programs / "mailroom"
    program.write_text(_CALLER.format(python=sys.executable, path=str(path)))
    program.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.imported", str(path)],
        # Also of a copy of the project it imports what is there.
        env={"PYTHONPATH": ":".join([str(ROOT), *filter(None, sys.path)]), "LC_ALL": "C.UTF-8"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        # With what it has forked, it is ended as a group.
        start_new_session=True,
    ) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the commands of mailroom cannot be imported")
        yield programs
        os.killpg(process.pid, signal.SIGKILL)


def _serve(path: str) -> None:
    for point in entry_points(group="mailroom.commands"):
        point.load()
    named(["all"])
    # What nobody looks through is not copied either.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of them is waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen(64)
        print("listening", flush=True)
        while True:
            asked, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _attend(asked)
            asked.close()


def _attend(asked: socket.socket) -> None:
    """Run one command in a child, and stand between it and who called it."""
    told, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        asked.close()
        os._exit(_run(json.loads(told), streams))
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    while ended not in select.select([ended, asked.fileno()], [], [])[0]:
        # A signal to pass on; or nothing: who called was killed.
        os.kill(child, int(asked.recv(16) or signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    try:
        asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def _run(asked: tuple[list[str], dict[str, str], str], streams: list[int]) -> int:
    """Be the command; its exit code, as Python itself would end with it."""
    sys.argv, environment, folder = asked
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(":"))
    invalidate_caches()  # a package may have been installed since
    # The one module that looks into the environment when it is imported.
    importlib.reload(crashpoints)
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 -- whatever it is, it is told as Python would
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
