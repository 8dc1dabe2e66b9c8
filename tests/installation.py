"""One installation on the shared servers: a database, a vhost, and everybody's passwords.

Invariant: every service has a role and a broker user of its own, as in a real installation, so that
a missing grant shows in a test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from deploy.local import PostgreSQL, RabbitMQ, role_of

OWNER = "mailroom"


def service_names() -> list[str]:
    """All services, without importing one."""
    return sorted(entry.name for entry in entry_points(group="mailroom.services"))


def installed_services() -> list[Any]:
    """Every `Service` that is there to be run."""
    entries = sorted(entry_points(group="mailroom.services"), key=lambda entry: entry.name)
    return [entry.load() for entry in entries if find_spec(entry.module)]


def password_of(user: str) -> str:
    """Of a role or broker user that lives for one test run."""
    return f"{user}-secret"


@dataclass(frozen=True)
class Database:
    """A migrated database that one test has for itself."""

    server: PostgreSQL
    name: str

    def url(self, service: str) -> str:
        """As the service's own role; `mailroom` is the owner's."""
        role = OWNER if service == OWNER else role_of(service)
        password = password_of(service)
        return f"postgresql://{role}:{password}@{self.server.host}:{self.server.port}/{self.name}"

    @property
    def superuser_url(self) -> str:
        """As PostgreSQL's superuser, to look at what nobody else may."""
        return self.server.dsn.rpartition("/")[0] + f"/{self.name}"


@dataclass(frozen=True)
class Broker:
    """A vhost with Mailroom's exchanges and queues, empty when a test gets it."""

    server: RabbitMQ
    vhost: str
    queues: Sequence[str]

    def url(self, user: str) -> str:
        """As a service, or another user of the vhost."""
        return (
            f"amqp://{user}:{password_of(user)}@{self.server.host}:{self.server.port}/{self.vhost}"
        )

    @property
    def admin_url(self) -> str:
        """As the administrator, who may everything."""
        return f"{self.server.url}{self.vhost}"
