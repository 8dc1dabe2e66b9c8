"""Where the private servers are and how to log in: plain data, the same in every process.

Invariant: it can be written to a file and read in another process without loss, so that the workers
of a test run share servers.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

ServerName = Literal["postgresql", "rabbitmq", "dovecot", "postfix"]
ALL: frozenset[ServerName] = frozenset(get_args(ServerName))


@dataclass(frozen=True)
class PostgreSQL:
    """PostgreSQL, with its superuser."""

    host: str
    port: int
    user: str
    password: str
    dsn: str
    """The superuser's, of the database `postgres`."""

    @property
    def ports(self) -> set[int]:
        """All on which it listens."""
        return {self.port}


@dataclass(frozen=True)
class RabbitMQ:
    """RabbitMQ, with its administrator, who may everything on the vhost `/`."""

    host: str
    port: int
    user: str
    password: str
    url: str
    """The administrator's, of the vhost `/`."""
    environment: Mapping[str, str]
    """What rabbitmqctl needs to find this node; prefer `rabbitmqctl(servers, …)`."""

    @property
    def ports(self) -> set[int]:
        """All on which it listens."""
        internal = ("RABBITMQ_DIST_PORT", "ERL_EPMD_PORT")
        return {self.port, *(int(self.environment[name]) for name in internal)}


@dataclass(frozen=True)
class Dovecot:
    """Dovecot. `imap` has STARTTLS, `imaps` implicit TLS; on loopback it takes plaintext logins."""

    host: str
    imap: int
    imaps: int
    lmtp: int
    sasl: int

    @property
    def ports(self) -> set[int]:
        """All on which it listens."""
        return {self.imap, self.imaps, self.lmtp, self.sasl}


@dataclass(frozen=True)
class Postfix:
    """Postfix. `smtp` takes mail of strangers for our domains; the others want a login and TLS."""

    host: str
    smtp: int
    submission: int
    """STARTTLS, required."""
    submissions: int
    """Implicit TLS."""

    @property
    def ports(self) -> set[int]:
        """All on which it listens."""
        return {self.smtp, self.submission, self.submissions}


@dataclass(frozen=True)
class Servers:
    """The four servers of one folder, started or not: see `is_running`."""

    folder: Path
    fsync: bool
    ca_file: Path
    """The certificate authority, PEM, of Dovecot's and Postfix's certificates; there as soon as
    one of them was started. They are valid for `localhost` and 127.0.0.1."""
    postgresql: PostgreSQL
    rabbitmq: RabbitMQ
    dovecot: Dovecot
    postfix: Postfix

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> "Servers":
        """What `to_json` wrote."""
        fields = json.loads(text)
        return Servers(
            folder=Path(fields["folder"]),
            fsync=fields["fsync"],
            ca_file=Path(fields["ca_file"]),
            postgresql=PostgreSQL(**fields["postgresql"]),
            rabbitmq=RabbitMQ(**fields["rabbitmq"]),
            dovecot=Dovecot(**fields["dovecot"]),
            postfix=Postfix(**fields["postfix"]),
        )
