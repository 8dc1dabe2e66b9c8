"""Start, stop and end the private servers of one folder.

Invariant: a server that is said to have started has answered in its own protocol, under its own
name or password: never is another server on the same port taken for it.
"""

import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local import dovecot, guarded, postfix, postgresql, rabbitmq, tls
from deploy.local.addresses import ALL, ServerName, Servers
from deploy.local.ports import is_free

_FILE = "servers.json"
_CHAINS: list[list[ServerName]] = [["dovecot", "postfix"], ["postgresql"], ["rabbitmq"]]
START_SECONDS = 90.0
PORT_TRIES = 5
_LONGEST_FOLDER = 60
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True)
class _Kind:
    program: Callable[[Servers, Path], guarded.Program]
    answers: Callable[[Servers], bool]
    addresses: Callable[[Path], Any]
    user: Callable[[], str | None]


_KINDS: dict[ServerName, _Kind] = {
    "postgresql": _Kind(
        postgresql.program,
        postgresql.answers,
        lambda _: postgresql.addresses(),
        postgresql.unprivileged_user,
    ),
    "rabbitmq": _Kind(
        rabbitmq.program, rabbitmq.answers, rabbitmq.addresses, rabbitmq.unprivileged_user
    ),
    "dovecot": _Kind(
        dovecot.program, dovecot.answers, lambda _: dovecot.addresses(), dovecot.unprivileged_user
    ),
    "postfix": _Kind(postfix.program, postfix.answers, lambda _: postfix.addresses(), lambda: None),
}


class NotStarted(Exception):
    """A server did not come up; the message ends with the last lines of its log."""

    def __init__(self, name: ServerName, why: str, log: Path, tail: str) -> None:
        super().__init__(f"{name} did not start: {why}; log {log}:\n{tail}")
        self.name = name
        self.log = log


class PortTaken(NotStarted):
    """As NotStarted: another process listens on one of its ports."""


class FolderRefused(Exception):
    """A folder in which the servers cannot live; the message says why and what to do."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"folder {folder}: {why}")
        self.folder = folder


class RootNeeded(Exception):
    """Postfix needs root, and `sudo -n` does not give it."""

    def __init__(self) -> None:
        super().__init__("Postfix runs as root only: run as root, or allow `sudo -n` for this user")


@contextmanager
def prepared(folder: Path, *, fsync: bool = True) -> Iterator[Servers]:
    """The servers of `folder`, none started; ends all that anybody started there, at the exit.

    The process that enters this is the launcher: when it ends, even by SIGKILL, they end. Raises
    FolderRefused.
    """
    folder = folder.absolute()
    _make(folder)
    servers = Servers(
        folder=folder,
        fsync=fsync,
        ca_file=folder / "ca.pem",
        postgresql=postgresql.addresses(),
        rabbitmq=rabbitmq.addresses(folder / "rabbitmq"),
        dovecot=dovecot.addresses(),
        postfix=postfix.addresses(),
    )
    with guarded.lifelines([folder / name for name in sorted(ALL)]):
        _store(servers)
        yield servers


@contextmanager
def running(
    folder: Path, *, which: Iterable[ServerName] = ALL, fsync: bool = True
) -> Iterator[Servers]:
    """Start servers in `folder`, all at the same time, and end them at the exit.

    `fsync=False` is faster and loses data in a power cut: for tests alone. Raises NotStarted,
    FolderRefused, RootNeeded.
    """
    with prepared(folder, fsync=fsync):
        yield started(folder, which)


def started(folder: Path, which: Iterable[ServerName] = ALL) -> Servers:
    """Start those of `which` that do not run, in the folder that some process has `prepared`.

    Safe to call from several processes at the same time. Raises NotStarted, RootNeeded.
    """
    names = set(which)
    if "postfix" in names:
        # It hands its mail to Dovecot and asks it for logins, so it must know Dovecot's ports.
        names.add("dovecot")
    if "postfix" in names and os.geteuid() and not guarded.may_sudo():
        raise RootNeeded
    chains = [[name for name in chain if name in names] for chain in _CHAINS]
    with ThreadPoolExecutor(len(chains)) as threads:
        for _ in threads.map(lambda chain: _start_chain(folder.absolute(), chain), chains):
            pass
    return load(folder.absolute())


def load(folder: Path) -> Servers:
    """The servers of a folder that some process has `prepared`."""
    return Servers.from_json((folder / _FILE).read_text(encoding="utf-8"))


def start(servers: Servers, name: ServerName) -> None:
    """Start a server again, with the same data, on the same ports, and wait until it answers.

    It still ends with the launcher. Does nothing if it runs. Raises NotStarted.
    """
    with _locked(servers.folder / name):
        if not is_running(servers, name):
            _start(servers, name)


def stop(servers: Servers, name: ServerName) -> None:
    """End a server in order; its data stay. Does nothing if it does not run."""
    _tell_and_wait(servers, name, "stop")


def kill(servers: Servers, name: ServerName) -> None:
    """End every process of a server by SIGKILL; its data stay. Does nothing if it does not run."""
    _tell_and_wait(servers, name, "kill")


def freeze(servers: Servers, name: ServerName) -> None:
    """Stop every process of a server where it is (SIGSTOP): its ports take connections, no more."""
    folder = servers.folder / name
    guarded.tell(folder, "freeze")
    guarded.wait(folder, "frozen", lambda: set(processes(servers, name).values()) <= {"T"})


def thaw(servers: Servers, name: ServerName) -> None:
    """Let a frozen server go on."""
    folder = servers.folder / name
    guarded.tell(folder, "thaw")
    guarded.wait(folder, "thawed", lambda: "T" not in processes(servers, name).values())


def is_running(servers: Servers, name: ServerName) -> bool:
    """Whether its guard lives."""
    return guarded.guard_pid(servers.folder / name) is not None


def processes(servers: Servers, name: ServerName) -> dict[int, str]:
    """Pid → state (a letter of proc(5)) of each process of a server, its guard left out."""
    return guarded.server_processes(servers.folder / name)


def remove(folder: Path) -> None:
    """Remove the folder of servers that have ended, also what root owns in it."""
    if os.geteuid() and (folder / "postfix" / "queue").exists():
        subprocess.run(["sudo", "-n", "rm", "-rf", folder / "postfix"], check=False)
    shutil.rmtree(folder)


def _tell_and_wait(servers: Servers, name: ServerName, command: str) -> None:
    folder = servers.folder / name
    guarded.tell(folder, command)
    guarded.wait_until_ended(folder)


def _start_chain(folder: Path, chain: Iterable[ServerName]) -> None:
    for name in chain:
        with _locked(folder / name):
            servers = load(folder)
            if not is_running(servers, name):
                _start_first(servers, name)


def _start_first(servers: Servers, name: ServerName) -> None:
    """Start a server; nobody knows its ports yet, so that a lost port is replaced by another."""
    for _ in range(PORT_TRIES - 1):
        try:
            _start(servers, name)
        except PortTaken:
            servers = _moved(servers.folder, name)
        else:
            return
    _start(servers, name)


def _start(servers: Servers, name: ServerName) -> None:
    folder, kind = servers.folder / name, _KINDS[name]
    if name in ("dovecot", "postfix"):
        with _locked(servers.folder):
            tls.make(servers.ca_file, servers.folder / "tls")
    log = folder / guarded.LOG
    already = log.stat().st_size if log.exists() else 0
    guard = guarded.launch(folder, kind.program(servers, folder))
    deadline = time.monotonic() + START_SECONDS
    while not kind.answers(servers):
        if guard.ended:
            # Its ports are free now, but for what another program has.
            taken = [port for port in getattr(servers, name).ports if not is_free(port)]
            if taken:
                raise PortTaken(name, f"port {taken[0]} is taken", log, _said(log, already))
            raise NotStarted(name, "it ended by itself", log, _said(log, already))
        if time.monotonic() > deadline:
            guarded.tell(folder, "kill")
            raise NotStarted(name, f"no answer in {START_SECONDS:g} s", log, _said(log, already))
        time.sleep(0.02)


def _said(log: Path, already: int) -> str:
    """The last lines of what a server wrote since its log was `already` bytes long."""
    with log.open("rb") as written:
        written.seek(already)
        return "\n".join(written.read().decode("utf-8", "replace").splitlines()[-15:])


def _moved(folder: Path, name: ServerName) -> Servers:
    """Give a server new addresses."""
    with _locked(folder):
        new: dict[str, Any] = {name: _KINDS[name].addresses(folder / name)}
        servers = replace(load(folder), **new)
        _store(servers)
    return servers


def _store(servers: Servers) -> None:
    new = servers.folder / f"{_FILE}.new"
    new.touch(mode=0o600)
    new.write_text(servers.to_json(), encoding="utf-8")
    new.replace(servers.folder / _FILE)


def _make(folder: Path) -> None:
    """The folder, new or empty, and such that the servers' users reach it."""
    if not _PLAIN_PATH.fullmatch(str(folder)):
        raise FolderRefused(folder, "give one with a plain name: letters, digits, '.', '_', '-'")
    if len(str(folder)) > _LONGEST_FOLDER:
        # A Unix socket's path has at most 107 bytes, and Dovecot's lie below.
        raise FolderRefused(folder, f"give one of at most {_LONGEST_FOLDER} characters")
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
    if closed:
        raise FolderRefused(
            folder, f"{closed[0]} is closed to the servers' users; take one in /tmp"
        )
    folder.mkdir(exist_ok=True)
    if any(folder.iterdir()):
        raise FolderRefused(folder, "give a new or an empty one")
    folder.chmod(0o711)
    for name, kind in _KINDS.items():
        user = kind.user()
        own = folder / name
        own.mkdir(mode=0o700 if name != "postfix" else 0o711)
        if user is not None:
            shutil.chown(own, user)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process or thread at a time; a lock ends with its process."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
