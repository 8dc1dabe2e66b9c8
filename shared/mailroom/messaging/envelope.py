"""What travels with an event: the envelope of one that came, and of one to publish."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from mailroom.contracts import Contract

E_co = TypeVar("E_co", bound=Contract, covariant=True)


@dataclass(frozen=True)
class Received(Generic[E_co]):
    """An event whose envelope was checked: its key fits its name, its publisher may publish it."""

    event_id: str
    event: E_co
    publisher: str
    """The broker user that RabbitMQ proved, kept from first receipt through every retry."""
    correlation_id: str
    """The same from the arrival of a mail to the last event that it caused."""
    published_at: datetime
    tries: int = 0


@dataclass(frozen=True)
class Outgoing:
    """An event to publish: a row in the outbox, in the transaction of the state that it tells."""

    event: Contract
    correlation_id: str
    event_id: UUID = field(default_factory=uuid4)
    due: datetime | None = None
    """Not before; null is at once."""


def caused_by(cause: Received[Contract], event: Contract) -> Outgoing:
    """`event` as a consequence of `cause`: it carries on the cause's correlation id."""
    return Outgoing(event, cause.correlation_id)
