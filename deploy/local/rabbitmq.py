"""A private RabbitMQ node with an epmd of its own.

Invariant: it shares nothing with a node that the system runs: own epmd, own cookie, own folders,
and it listens on loopback alone.
"""

import json
import os
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.local.addresses import RabbitMQ, Servers
from deploy.local.guarded import Program
from deploy.local.ports import HOST, free_ports

# Debian's wrapper in /usr/sbin would switch the user and use the system's folders.
_BINARIES = Path("/usr/lib/rabbitmq/bin")
# Schedulers sleep as soon as they have nothing to do: others use these cores, too.
_SLEEPS = "+sbwt none +sbwtdcpu none +sbwtdio none"
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitmqctlFailed(Exception):
    """rabbitmqctl refused; the message is what it said."""

    def __init__(self, arguments: tuple[str, ...], said: str) -> None:
        super().__init__(f"rabbitmqctl {arguments[0]}: {said}")
        self.arguments = arguments


class DefinitionsIncomplete(Exception):
    """Imported definitions did not all take effect in time."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"not there after the import: {', '.join(missing)}")
        self.missing = missing


def addresses(folder: Path) -> RabbitMQ:
    """Free ports, a new password, and a node name that no other node of this machine has."""
    amqp, distribution, epmd = free_ports(3)
    user, password = "admin", secrets.token_hex(16)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "RABBITMQ_NODENAME": f"mailroom-{secrets.token_hex(4)}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_LOG": "-color",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _SLEEPS,
        "RABBITMQ_CTL_ERL_ARGS": f"{_SLEEPS} {_LOOPBACK}",
        # Each running rabbitmqctl listens on one of these.
        "RABBITMQ_CTL_DIST_PORT_MIN": "10000",
        "RABBITMQ_CTL_DIST_PORT_MAX": "14999",
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": HOST,
        # The shell then becomes beam: no wrapper between the guard and the node.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    url = f"amqp://{user}:{password}@{HOST}:{amqp}/"
    return RabbitMQ(HOST, amqp, user, password, url, environment)


def program(servers: Servers, folder: Path) -> Program:
    """epmd and the node, under one guard."""
    server = servers.rabbitmq
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = {server.host}:{server.port}\n"
        f"default_user = {server.user}\n"
        f"default_pass = {server.password}\n"
        "log.console = true\n"
        "log.console.level = warning\n"
        "log.file = false\n"
        # Of the whole machine: a private broker must not stop at what others use.
        "vm_memory_high_watermark.relative = 0.6\n"
        "disk_free_limit.absolute = 50MB\n",
        encoding="ascii",
    )
    (folder / "enabled_plugins").write_text("[].\n", encoding="ascii")
    epmd = f"epmd -address {HOST} -port {server.environment['ERL_EPMD_PORT']}"
    node = f"{' '.join(_one_cpu())} {_BINARIES}/rabbitmq-server -start_epmd false {_LOOPBACK}"
    return Program(
        command=(
            "sh",
            "-c",
            f"{epmd} & exec {node}",
        ),
        environment=server.environment,
        user=unprivileged_user(),
    )


def unprivileged_user() -> str | None:
    """Debian's own, if the launcher is root."""
    return "rabbitmq" if os.geteuid() == 0 else None


def answers(servers: Servers) -> bool:
    """Whether this very node opens an AMQP connection: its first frame names the node."""
    server = servers.rabbitmq
    node = server.environment["RABBITMQ_NODENAME"].partition("@")[0].encode()
    try:
        with socket.create_connection((server.host, server.port), timeout=1) as connection:
            connection.sendall(_AMQP_HEADER)
            return node in connection.recv(4096)
    except OSError:
        return False


def rabbitmqctl(servers: Servers, *arguments: str, stdin: str = "") -> str:
    """Run rabbitmqctl on this node; returns its output. Raises RabbitmqctlFailed."""
    user = unprivileged_user()
    done = subprocess.run(
        [*_one_cpu(), _BINARIES / "rabbitmqctl", "--quiet", *arguments],
        env=dict(servers.rabbitmq.environment),
        cwd="/",
        input=stdin,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RabbitmqctlFailed(arguments, (done.stderr or done.stdout).strip())
    return done.stdout


def purge_queues(servers: Servers) -> None:
    """Drop what waits in any queue of any vhost; what a consumer holds stays his."""
    each = "[{ok, _} = rabbit_amqqueue:purge(Queue) || Queue <- rabbit_amqqueue:list()]."
    rabbitmqctl(servers, "eval", each)


def _one_cpu() -> list[str]:
    """What runs an Erlang machine on one CPU.

    Its threads wake one another at every file and message, and to wake another CPU of a virtual
    machine is dear: on one, RabbitMQ starts in 5.8 s and not 10, for two thirds of the processor
    time.
    """
    return ["taskset", "--cpu-list", str(random.choice(sorted(os.sched_getaffinity(0))))]  # noqa: S311


def import_definitions(
    servers: Servers, definitions: Mapping[str, Any], within: float = 30.0
) -> None:
    """Import users, vhosts, permissions, policies, exchanges, queues and bindings.

    RabbitMQ imports asynchronously; this returns when all of it is there. Raises
    RabbitmqctlFailed, or DefinitionsIncomplete after `within` seconds.
    """
    rabbitmqctl(servers, "import_definitions", stdin=json.dumps(definitions))
    wanted = _names(definitions)
    deadline = time.monotonic() + within
    while missing := wanted - _names(_export(servers)):
        if time.monotonic() > deadline:
            raise DefinitionsIncomplete(sorted(missing))
        time.sleep(0.1)


def _export(servers: Servers) -> dict[str, Any]:
    text = rabbitmqctl(servers, "export_definitions", "-", "--format", "json")
    definitions: dict[str, Any] = json.loads(text)
    return definitions


def _names(definitions: Mapping[str, Any]) -> set[str]:
    """One line for each thing defined: its kind, and what RabbitMQ tells it apart by."""
    keys = ("vhost", "name", "user", "exchange", "source", "destination", "routing_key")
    return {
        " ".join([kind, *(str(item[key]) for key in keys if key in item)])
        for kind in definitions
        if isinstance(definitions[kind], list)
        for item in definitions[kind]
    }
