"""What a service is: a name, its settings, its tables, and which queue leads to which handler.

Invariant: this is a table of contents, plain data. What it says is done by `mailroom.messaging`
(consume once, retry, park, publish) and `mailroom.serve` (life cycle); no service does that itself.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import MetaData, Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailroom.contracts import Contract, FieldError
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.messaging.tables import MessagingTables
from mailroom.objects import ObjectStore
from mailroom.settings import CommonSettings, ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Resources(Generic[S]):
    """What a running service holds; handlers and tasks get it, rules do not."""

    common: CommonSettings
    settings: S
    engine: AsyncEngine
    objects: ObjectStore
    messaging: MessagingTables
    replica: str
    """Unique to this process: the holder's name in every lease."""


Handler = Callable[
    [AsyncConnection, Sequence[Received[Any]], Resources[Any]], Awaitable[Sequence[Outgoing]]
]
"""`async def route(tx, events, resources) -> outgoing events`: load for all, decide per event
(seeing its own earlier decisions in the batch), write rows for all. It never commits and catches
nothing: consumed ids, its rows and what it returns commit together, or not at all."""


@dataclass(frozen=True)
class Subscription:
    """One queue, `<service>.<contract's name>`, and what handles its events."""

    contract: type[Contract]
    handler: Handler
    keys: tuple[str, ...] = ()
    """Routing keys to bind; empty means all of the contract's."""
    refuse: Callable[["Refused"], Sequence[Outgoing]] | None = None
    """For commands: what to tell the publisher of one that does not fit. It is parked besides."""


@dataclass(frozen=True)
class Refused:
    """A message whose body does not fit its contract, as `Subscription.refuse` sees it."""

    event_id: str | None
    publisher: str
    correlation_id: str
    body: bytes
    errors: tuple[FieldError, ...]


Task = Callable[[Resources[Any]], Awaitable[None]]
"""A loop that runs as long as the service does, ended by cancellation. It is started anew, after a
growing pause, if it raises."""


@dataclass(frozen=True)
class TraceKeys:
    """By what a mail is known. Services widen it for each other until it grows no more."""

    message_ids: frozenset[str] = frozenset()
    mails: frozenset[UUID] = frozenset()
    correlation_ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TraceStep:
    """One thing that a service did with the mail, and why."""

    at: datetime
    service: str
    what: str
    """A past participle: received, routed, opened, joined, accepted, sent, filed …"""
    why: str = ""
    detail: dict[str, str] = field(default_factory=dict)


Trace = Callable[[AsyncConnection, TraceKeys], Awaitable[tuple[TraceKeys, Sequence[TraceStep]]]]
"""What this service knows of the mail: further keys, and its steps."""


Mend = Callable[
    [AsyncConnection, Any, ObjectStore, Mapping[str, str]], Awaitable[Mapping[str, str]]
]
"""Has damaged objects brought or made again when the transaction commits. From SHA-256 to what is
wrong, with the service's settings; from SHA-256 to what becomes of it, in a person's words."""


@dataclass(frozen=True)
class Writes:
    """The objects that a service writes and its rows refer to."""

    hashes: Select[Any]
    """Their SHA-256, each once."""
    mend: Mend | None = None


@dataclass(frozen=True)
class Service(Generic[S]):
    """A service, whole. `mailroom serve <name>` runs it; its entry point is `mailroom.services`."""

    name: str
    settings: type[S]
    metadata: MetaData
    """Its tables, in the schema that has its name (dashes as underscores)."""
    messaging: MessagingTables
    publishes: tuple[type[Contract], ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    tasks: tuple[Task, ...] = ()
    trace: Trace | None = None
    writes: Writes | None = None


class ServiceUnknown(Exception):
    """No installed package has a service of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(f"service {name!r} is not installed: give one of {', '.join(known)}")


def installed() -> dict[str, Service[Any]]:
    """Every installed service by name, found by the entry points `mailroom.services`."""
    return {point.name: point.load() for point in entry_points(group="mailroom.services")}


def named(names: Sequence[str]) -> list[Service[Any]]:
    """The services of these names; `all` is each one. Raises ServiceUnknown."""
    points = {point.name: point for point in entry_points(group="mailroom.services")}
    wanted = sorted(points) if list(names) == ["all"] else list(names)
    for name in wanted:
        if name not in points:
            raise ServiceUnknown(name, [*sorted(points), "all"])
    return [points[name].load() for name in wanted]
