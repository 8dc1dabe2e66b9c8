"""`mailroom` for the terminals, by forks of a process that has imported it: 0.1 s and not 0.7 each.

Invariant: a command runs in a process of its own, with arguments, variables, folder and standard
streams of whoever called it, and ends with its own exit code.
"""

import json
import os
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

from mailroom import cli
from tests.docs.pages import ROOT

VARIABLE = "MAILROOM_IMPORTED"
"""Where the stand-in for `mailroom` asks."""


@contextmanager
def imported(folder: Path) -> Iterator[Path]:
    """Run commands asked for at the socket that this yields; packages in `folder`/site count."""
    path = folder / "imported"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.docs.imported", str(path)],
        env={"PYTHONPATH": f"{ROOT}:{folder}/site", "LC_ALL": "C.UTF-8"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        # With what it has forked, it is ended as a group.
        start_new_session=True,
    ) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the commands of mailroom cannot be imported")
        yield path
        os.killpg(process.pid, signal.SIGKILL)


def _serve(path: str) -> None:
    for point in entry_points(group="mailroom.commands"):
        point.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of them is waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        print("listening", flush=True)
        while True:
            asked, _ = listening.accept()
            if os.fork() == 0:
                _run(asked)
            asked.close()


def _run(asked: socket.socket) -> None:
    told, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
    sys.argv, environment, folder = json.loads(told)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    invalidate_caches()  # a package may have been installed since
    asked.send(str(_code()).encode())
    os._exit(0)


def _code() -> int:
    """The exit code of the command that is run now, as Python itself would end with it."""
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
