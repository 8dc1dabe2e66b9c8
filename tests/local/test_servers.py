"""Starting, stopping and starting again."""

import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy import local
from deploy.local import ports
from deploy.local.postgresql import execute
from deploy.local.servers import PortTaken

TEMP = tempfile.gettempdir()


def listen(port: int) -> socket.socket:
    """Take a port, as another program may."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((ports.HOST, port))
    taken.listen()
    return taken


STARTS_SLOWLY = "rabbitmq"
EACH = [
    pytest.param(name, marks=pytest.mark.matrix if name == STARTS_SLOWLY else ())
    for name in sorted(local.ALL)
]


@pytest.mark.parametrize("name", EACH)
def test_a_port_that_another_program_took_is_replaced(folder: Path, name: local.ServerName) -> None:
    with local.prepared(folder, fsync=False) as chosen:
        port = max(getattr(chosen, name).ports)
        with listen(port):
            servers = local.started(folder, {name})
            assert port not in getattr(servers, name).ports
            assert servers == local.load(folder)


def test_starting_again_on_a_port_that_was_taken_meanwhile_is_an_error(folder: Path) -> None:
    with local.running(folder, which={"postgresql"}) as servers:
        local.stop(servers, "postgresql")
        with listen(servers.postgresql.port), pytest.raises(PortTaken, match="is taken"):
            local.start(servers, "postgresql")


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(folder: Path) -> None:
    with local.running(folder, which={"postgresql"}) as servers:
        local.stop(servers, "postgresql")
        (folder / "postgresql" / "data" / "postgresql.auto.conf").write_text(
            "no_such_setting = 1\n"
        )
        with pytest.raises(
            local.NotStarted, match=r"(?s)postgresql did not start.*no_such_setting"
        ) as it:
            local.start(servers, "postgresql")
        assert str(folder / "postgresql" / "log") in str(it.value)


@pytest.mark.parametrize("end", [local.stop, local.kill])
def test_data_outlive_a_server(
    folder: Path, end: Callable[[local.Servers, local.ServerName], None]
) -> None:
    with local.running(folder, which={"postgresql"}) as servers:
        execute(servers, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (42)")
        end(servers, "postgresql")
        assert not local.is_running(servers, "postgresql")
        assert ports.is_free(servers.postgresql.port)
        local.start(servers, "postgresql")
        assert execute(servers, "SELECT id FROM kept") == "42"


async def test_a_frozen_server_takes_connections_and_says_nothing(folder: Path) -> None:
    with local.running(folder, which={"dovecot"}) as servers:
        local.freeze(servers, "dovecot")
        server = servers.dovecot
        with socket.create_connection((server.host, server.imap), timeout=0.2) as connection:
            with pytest.raises(TimeoutError):
                connection.recv(1)
            local.thaw(servers, "dovecot")
            connection.settimeout(10)
            assert connection.recv(1) == b"*"
        local.freeze(servers, "dovecot")
    # A frozen server ends with the others.
    assert ports.is_free(servers.dovecot.imap)


def test_servers_that_were_not_asked_for_do_not_run(folder: Path) -> None:
    with local.running(folder, which={"postgresql"}) as servers:
        assert local.is_running(servers, "postgresql")
        for other in local.ALL - {"postgresql"}:
            assert not local.is_running(servers, other)
        local.stop(servers, "dovecot")
        local.freeze(servers, "dovecot")


def test_addresses_survive_the_way_into_another_process(folder: Path) -> None:
    with local.prepared(folder) as servers:
        assert local.load(folder) == servers


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        (f"{TEMP}/mail room", "plain name"),
        (TEMP + "/x" * 40, "at most 60 characters"),
        (TEMP, "a new or an empty one"),
    ],
)
def test_a_folder_in_which_servers_cannot_live_is_refused(path: str, remedy: str) -> None:
    with pytest.raises(local.FolderRefused, match=remedy), local.prepared(Path(path)):
        pass


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = ports.free_ports(50)
    assert len(set(chosen)) == 50
    assert max(chosen) < lowest


def test_a_port_on_which_somebody_listens_is_not_free() -> None:
    with ExitStack() as taken:
        (port,) = ports.free_ports(1)
        taken.enter_context(listen(port))
        assert not ports.is_free(port)
    assert ports.is_free(port)
