"""A private PostgreSQL, its roles and databases.

Invariant: a service's role can log in, connect to the databases made here, and nothing else: what
it may do inside, the migrations grant. Nobody connects who has no role.
"""

import os
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGINT, SIGQUIT

from deploy.local.addresses import PostgreSQL, Servers
from deploy.local.guarded import Program
from deploy.local.ports import HOST, free_ports

OWNER = "mailroom"
SERVICES = "mailroom_services"
"""A group: whoever is in it may connect."""

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    # In its own folder rather than /dev/shm, where SIGKILL would leave it behind.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
_UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class SqlRefused(Exception):
    """PostgreSQL refused a statement of the launcher."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def addresses() -> PostgreSQL:
    """A free port and a new password."""
    (port,) = free_ports(1)
    password = secrets.token_hex(16)
    dsn = f"postgresql://postgres:{password}@{HOST}:{port}/postgres"
    return PostgreSQL(HOST, port, "postgres", password, dsn)


def program(servers: Servers, folder: Path) -> Program:
    """Make the database cluster if there is none, and run it."""
    server = servers.postgresql
    binaries, data, password = _binaries(), folder / "data", folder / "password"
    password.write_text(server.password, encoding="ascii")
    settings = _SETTINGS | {"port": str(server.port)} | ({} if servers.fsync else _UNSAFE)
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    initdb = (
        f"{binaries}/initdb --no-sync --no-instructions --username={server.user} "
        f"--auth=scram-sha-256 --pwfile={password} --encoding=UTF8 --locale=C.UTF-8 {data}"
    )
    script = (
        # The server writes this file when it first runs: a half-made cluster has none.
        f"test -f {data}/postmaster.opts || {{ rm -rf {data}; {initdb}; }} "
        f"&& exec {binaries}/postgres -D {data} {options}"
    )
    return Program(
        command=("sh", "-c", script),
        environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        user=unprivileged_user(),
        stop_signal=SIGINT,
        # Lets PostgreSQL remove its System V shared memory, which SIGKILL would leave behind.
        end_signal=SIGQUIT,
    )


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def answers(servers: Servers) -> bool:
    """Whether it lets its own superuser in."""
    try:
        execute(servers, "SELECT 1")
    except SqlRefused:
        return False
    return True


def create_roles(servers: Servers, services: Sequence[str], passwords: Mapping[str, str]) -> None:
    """Make the owner role `mailroom`, and a role `mailroom_<service>` for each service.

    `passwords` has one for each service, by its name, and the owner's as `mailroom`. Roles that
    exist get the given password. The owner owns the databases of `create_database`; the others may
    connect to them, and no more until the owner grants it.
    """
    logins = {OWNER: passwords[OWNER]}
    logins |= {role_of(service): passwords[service] for service in services}
    statements = [
        _unless_exists(SERVICES, f"CREATE ROLE {SERVICES} NOLOGIN"),
        "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC",
    ]
    for role, password in logins.items():
        name = identifier(role)
        statements.append(_unless_exists(role, f"CREATE ROLE {name}"))
        statements.append(
            f"ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
            f"PASSWORD {_literal(password)}"
        )
        statements.append(f"GRANT {SERVICES} TO {name}")
    execute(servers, *statements)


def create_database(servers: Servers, name: str, template: str | None = None) -> None:
    """Make a database of the owner `mailroom`, as a copy of `template` if one is given.

    Nobody may be connected to the template. Raises SqlRefused.
    """
    database = identifier(name)
    source = "" if template is None else f" TEMPLATE {identifier(template)}"
    execute(
        servers,
        f"CREATE DATABASE {database} OWNER {OWNER}{source}",
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {database} TO {SERVICES}",
    )


def drop_database(servers: Servers, name: str) -> None:
    """Drop a database, if it exists, and end the connections to it."""
    execute(servers, f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


def role_of(service: str) -> str:
    """The role of a service: crm-linker → mailroom_crm_linker."""
    return f"{OWNER}_{service.replace('-', '_')}"


def execute(servers: Servers, *statements: str) -> str:
    """Run statements one by one as superuser, by psql; returns what they print, unaligned.

    Raises SqlRefused with the first error.
    """
    server = servers.postgresql
    psql = [f"{_binaries()}/psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
    where = [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]
    done = subprocess.run(
        [*psql, *where, "--dbname=postgres", "--set=ON_ERROR_STOP=1", "--file=-"],
        input=";\n".join(statements) + ";\n",
        env={"PGPASSWORD": server.password, "PGCONNECT_TIMEOUT": "2", "PGSSLMODE": "disable"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SqlRefused(done.stderr.strip())
    return done.stdout.strip()


def identifier(name: str) -> str:
    """`name` as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unless_exists(role: str, create: str) -> str:
    exists = f"EXISTS (SELECT FROM pg_roles WHERE rolname = {_literal(role)})"
    return f"DO $do$ BEGIN IF NOT {exists} THEN {create}; END IF; END $do$"


def _binaries() -> Path:
    """Of the newest version: Debian keeps them out of the PATH, by version."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max(versions, key=lambda path: int(re.sub(r"\D", "", path.parts[4]))).parent
