"""Nothing that the launcher started outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from deploy import local
from deploy.local import guard, guarded, ports
from tests.local.mail import PASSWORD, logged_in
from tests.waiting import until

ROOT = Path(__file__).parents[2]
LAUNCHER = """
import signal, sys
from pathlib import Path
from deploy import local
# A run that the shell put into the background has it ignored, and so would we.
signal.signal(signal.SIGINT, signal.default_int_handler)
with local.running(Path(sys.argv[1]), which=sys.argv[2:], fsync=False):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def launcher(folder: Path, *names: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that runs servers until it is told, or ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, folder, *names],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def idle_session(servers: local.Servers) -> Iterator[None]:
    """Somebody waits for mail."""
    local.add_mail_user(servers, "service@example.com", PASSWORD)
    with logged_in(servers, "service@example.com") as imap:
        imap.select("INBOX")
        imap.send(b"x IDLE\r\n")
        assert imap.readline().startswith(b"+ idling")
        yield


def everything(servers: local.Servers) -> set[int]:
    """The guards, and what they guard."""
    guards = {int((servers.folder / name / guard.PID_FILE).read_text()) for name in local.ALL}
    return guards.union(*(local.processes(servers, name) for name in local.ALL))


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended; whether pid 1 reaps zombies is not ours."""

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    return {pid for pid in pids if state(pid) not in "XZ"}


def all_ports(servers: local.Servers) -> set[int]:
    each = (servers.postgresql, servers.rabbitmq, servers.dovecot, servers.postfix)
    return {port for server in each for port in server.ports}


async def test_all_servers_end_when_the_launcher_is_killed_with_an_idle_session_open(
    folder: Path,
) -> None:
    with launcher(folder, *local.ALL) as process:
        servers = local.load(folder)
        with idle_session(servers):
            before = everything(servers)
            # Postfix's master has a session of its own, so that no process group holds them all.
            assert len({os.getsid(pid) for pid in before}) > len(local.ALL)
            assert not any(ports.is_free(port) for port in all_ports(servers))
            process.kill()
            await until(lambda: not alive(before), within=5)
        assert all(ports.is_free(port) for port in all_ports(servers))


async def test_ctrl_c_is_for_the_launcher_which_ends_the_servers(folder: Path) -> None:
    with launcher(folder, "postgresql") as process:
        before = set(local.processes(local.load(folder), "postgresql"))
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=10)
        assert not alive(before)
    log = (folder / "postgresql" / "log").read_text()
    # In order, else its shared memory would stay behind.
    assert "received immediate shutdown request" in log
    assert "received fast shutdown request" not in log, "the terminal's SIGINT reached it"


async def test_an_error_too_ends_only_after_everything_that_was_started(tmp_path: Path) -> None:
    slow = "trap 'sleep 0.3; exit 0' TERM; while true; do sleep 0.01; done"
    program = guarded.Program(["sh", "-c", slow], end_signal=signal.SIGTERM)

    def fail() -> None:
        with guarded.lifelines([tmp_path]):
            guarded.launch(tmp_path, program)
            guarded.wait(tmp_path, "up", lambda: bool(guarded.server_processes(tmp_path)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert guarded.guard_pid(tmp_path) is None


async def test_what_starts_processes_all_the_time_is_frozen_whole(tmp_path: Path) -> None:
    busy = "while true; do sleep 1000 & sleep 0.001; done"
    states = partial(guarded.server_processes, tmp_path)
    with guarded.lifelines([tmp_path]):
        guarded.launch(tmp_path, guarded.Program(["sh", "-c", f"({busy}) & ({busy}) & {busy}"]))
        await until(lambda: len(states()) > 100)
        guarded.tell(tmp_path, "freeze")
        await until(lambda: set(states().values()) == {"T"})


async def test_what_another_process_started_again_ends_with_the_launcher(folder: Path) -> None:
    with launcher(folder, "postgresql") as process:
        servers = local.load(folder)
        local.kill(servers, "postgresql")
        local.start(servers, "postgresql")
        before = set(local.processes(servers, "postgresql"))
        process.kill()
        await until(lambda: not alive(before), within=5)


async def test_a_server_whose_master_was_killed_leaves_no_session_behind(folder: Path) -> None:
    with local.running(folder, which={"dovecot"}) as servers, idle_session(servers):
        before = local.processes(servers, "dovecot")
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: not local.is_running(servers, "dovecot"))
        assert not alive(set(before))


def test_what_was_said_to_an_earlier_guard_is_not_obeyed(folder: Path) -> None:
    with local.running(folder, which={"dovecot"}) as servers:
        local.stop(servers, "dovecot")
        with (folder / "dovecot" / guard.LIFELINE).open("w") as lifeline:
            lifeline.write("kill\n")
        local.start(servers, "dovecot")
        assert local.is_running(servers, "dovecot")


@pytest.mark.parametrize(("ending", "code"), [("exit 3", 3), ("kill -KILL $$", 128 + 9)])
async def test_a_guard_ends_with_the_exit_code_of_its_server(
    tmp_path: Path, ending: str, code: int
) -> None:
    with guarded.lifelines([tmp_path]):
        server = guarded.launch(tmp_path, guarded.Program(["/bin/sh", "-c", ending]))
        await until(lambda: server.ended)
    assert server.exit_code == code


async def test_ending_the_guard_ends_its_server(folder: Path) -> None:
    with local.running(folder, which={"dovecot"}) as servers:
        before = set(local.processes(servers, "dovecot"))
        os.kill(int((folder / "dovecot" / guard.PID_FILE).read_text()), signal.SIGTERM)
        await until(lambda: not local.is_running(servers, "dovecot"))
        assert not alive(before)


@pytest.mark.parametrize("name", sorted(local.ALL))
def test_nobody_listens_beyond_the_loopback_interface(
    servers: local.Servers, name: local.ServerName
) -> None:
    if name == "postfix" and os.geteuid():
        pytest.skip("only root sees what root's processes have open")
    addresses: list[str] = []
    for pid in local.processes(servers, name):
        # One that serves a client may end meanwhile; those that listen stay.
        with suppress(FileNotFoundError, ProcessLookupError):
            opened = descriptors(pid)
            addresses += [at for at, inode in listening(pid) if f"socket:[{inode}]" in opened]
    assert addresses
    assert set(addresses) <= LOOPBACK


# As /proc/net/tcp and tcp6 have 127.0.0.1 and ::1.
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def listening(pid: int) -> Iterator[tuple[str, str]]:
    """Address and inode of each listening socket that the process can see."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1].partition(":")[0], fields[9]


def descriptors(pid: int) -> set[str]:
    """What the process has open."""
    found: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # It may close one between the listing and the reading.
        with suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


@pytest.mark.parametrize("command", ["stop", "kill"])
def test_what_is_told_to_end_as_soon_as_it_was_launched_ends(tmp_path: Path, command: str) -> None:
    with guarded.lifelines([tmp_path]):
        sleeping = guarded.launch(tmp_path, guarded.Program(["/bin/sleep", "1000"]))
        guarded.tell(tmp_path, command)
        guarded.wait(tmp_path, "ended", lambda: sleeping.ended, seconds=10)
