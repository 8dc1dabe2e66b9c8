"""The grammar that every event and command of Mailroom follows.

Invariant: a contract only grows. Fields are added, and optional; readers ignore what they do not
know; what would break a reader gets a new name beside the old one.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of bytes in the object store, in lower-case hex: their name there."""

ANYONE = "*"
"""In `publishers`: every broker user may publish it; what it may do is the directory's to say."""


class Part(BaseModel):
    """A value inside a contract. Frozen; unknown fields are ignored, as the grammar promises."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Contract(Part):
    """One event or command: its fields are the body, its class variables the envelope's rules."""

    name: ClassVar[str]
    """The AMQP `type` and the start of the routing key: `mail.send` (a command is an imperative
    with one consumer), `mail.sent` (a fact is a past participle with any number)."""
    is_command: ClassVar[bool] = False
    """Commands are published `mandatory`: without a queue they return, and are tried again."""
    publishers: ClassVar[tuple[str, ...]]
    """The broker users that may publish it. A consumer parks what comes from any other."""
    key_suffixes: ClassVar[tuple[str, ...]] = ("",)
    """What may follow the name in the routing key."""

    def routing_key(self) -> str:
        """The key that this event is published under, and no other."""
        return self.name


class ObjectRef(Part):
    """Bytes in the object store."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0, description="bytes")]


class Address(Part):
    """A mailbox of RFC 5322 section 3.4: display name (decoded, may be empty) and addr-spec."""

    name: str = ""
    address: str


class RecordRef(Part):
    """What a module keeps mail for: a ticket, an opportunity, an order …"""

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]


Contracts = Mapping[str, type[Contract]]
"""Contracts by name."""

__all__ = [
    "ANYONE",
    "UUID",
    "Address",
    "AwareDatetime",
    "Contract",
    "Contracts",
    "ObjectRef",
    "Part",
    "RecordRef",
    "Sha256",
]
