"""The folder in which the private servers of a test run live, and what holds them there.

Invariant: whoever holds the folder is the servers' launcher: they end with it, even if it is
killed, and the folder goes with them.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy import local

GIVEN = "MAILROOM_TEST_SERVERS"
"""The variable that names the folder which another process holds for this run."""

_MEMORY = Path("/dev/shm")  # noqa: S108 -- that it is in memory is the point
_ROOM = 4 * 1024**3
"""Bytes; a run takes about a gigabyte."""


@contextmanager
def held() -> Iterator[Path]:
    """The folder, with no server started yet; at the end, all that were started there end."""
    _write_into_memory()
    folder = Path(tempfile.mkdtemp(prefix="mailroom-tests-"))
    try:
        with local.prepared(folder, fsync=False):
            yield folder
    finally:
        local.remove(folder)


@contextmanager
def once(folder: Path, what: str) -> Iterator[bool]:
    """True for the first of all workers that asks; the others wait until it is done.

    They share the folder.
    """
    done = folder / f"{what}.done"
    with (folder / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()


def _write_into_memory() -> None:
    """Put the run's temporary files, servers and all, into memory where there is room.

    Hundreds of databases are made, and quorum queues sync at every message: on a disk, the run
    takes half as long again. Nothing here has to outlive a power cut. TMPDIR overrides it.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY).free > _ROOM:
        # The workers, and all that the tests start, inherit it.
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None
