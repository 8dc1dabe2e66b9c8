"""Settings come from the environment, checked all at once before anything starts.

Invariant: a setting has a unit in its description, a default or the words "required", and is read
here and in each service's `settings.py` alone.
"""

import os
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    UrlConstraints,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails, Url
from pydantic_settings import BaseSettings, SettingsConfigDict

from mailroom import tls


def _without_ssl(url: Url) -> Url:
    # SQLAlchemy knows `ssl`, asyncpg `sslmode`, and neither the other's: in a URL both would only
    # work for some connections.
    for name, _ in url.query_params():
        if name.lower().startswith("ssl"):
            remedy = "set PGSSLMODE and PGSSLROOTCERT in the environment instead"
            raise ValueError(f"leave out {name!r}, and {remedy}")
    return url


DatabaseUrl = Annotated[
    Url, UrlConstraints(allowed_schemes=["postgresql"]), AfterValidator(_without_ssl)
]
BrokerUrl = Annotated[Url, UrlConstraints(allowed_schemes=["amqp", "amqps"])]


class CommonSettings(BaseSettings):
    """What every service reads: MAILROOM_…"""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_", extra="ignore")

    objects: str = Field(
        min_length=1, description="object store: a folder's path or file:// URL; required"
    )
    tls_ca_file: Path | None = Field(
        default=None,
        description="PEM file of certificate authorities of mail servers, beside the system's; "
        "read at start",
    )
    http: str = Field(
        default="127.0.0.1:0",
        pattern=r"^[^:]+:\d+$",
        description="host:port of /metrics, /healthz, /readyz; port 0 takes a free one",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least that is logged"
    )
    log_format: str = Field(
        default="json",
        pattern="^(json|text)$",
        description="one JSON object a line, or text for a person's terminal",
    )

    @field_validator("objects")
    @classmethod
    def _is_a_folder(cls, location: str) -> str:
        if "://" in location and not location.startswith("file://"):
            raise ValueError("give the path of a folder, or file:///path")
        return location

    def read_files(self) -> None:
        """Read what settings name, once, before anything starts. Raises SettingsRefused."""
        try:
            tls.client_context(self.tls_ca_file)
        except tls.AuthoritiesUnreadable as refused:
            raise SettingsRefused(str(refused)) from None


class ServiceSettings(BaseSettings):
    """What each service reads under its own prefix, MAILROOM_<SERVICE>_…"""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: DatabaseUrl = Field(
        description="postgresql://mailroom_<service>:…@host:port/database, its own role; required"
    )
    broker_url: BrokerUrl = Field(
        description="amqp://<service>:…@host:port/vhost, its own broker user; required"
    )
    batch: int = Field(default=100, ge=1, le=500, description="events a transaction, at most")
    tries: int = Field(
        default=12, ge=1, le=100, description="how often an event is tried before it is parked"
    )
    retention_days: int = Field(
        default=30,
        ge=1,
        # Consumers know ids for 60 days and their own retention: see `consumed`.
        le=60,
        description="days that published events are kept for replay",
    )

    def read_files(self) -> None:
        """Read what settings name, once, before anything starts. Raises SettingsRefused.

        For a service whose settings name files to say how. A command that needs none of them needs
        no right to read them, so it is not asked whenever settings are loaded.
        """


class OwnerSettings(BaseSettings):
    """What `mailroom migrate` reads: the roles that may create. No service has them."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_OWNER_", extra="ignore")

    database_url: DatabaseUrl = Field(description="postgresql://mailroom:…, the owner; required")
    broker_url: BrokerUrl = Field(description="amqp:// with configure rights; required")


class SettingsRefused(Exception):
    """Settings that cannot be used; each line names variable, value and remedy."""


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read `settings` from the environment. Raises SettingsRefused with every fault at once."""
    try:
        return settings()
    except ValidationError as invalid:
        prefix = settings.model_config.get("env_prefix", "")
        raise SettingsRefused(
            "; ".join(_fault(settings, prefix, error) for error in invalid.errors())
        ) from None


def _fault(settings: type[BaseSettings], prefix: str, error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    variable = prefix + name.upper()
    field = settings.model_fields.get(name)
    wanted = field.description if field and field.description else error["msg"]
    if error["type"] == "missing":
        return f"{variable} is not set: {wanted}"
    secret = field is not None and field.annotation is SecretStr
    value = "…" if secret or "url" in name else os.environ.get(variable, "")
    return f"{variable} is {value!r}: {error['msg']} ({wanted})"
