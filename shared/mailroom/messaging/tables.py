"""The tables of messaging, the same four in each service's schema.

Invariant: they hold everything that a broker may lose. `outbox` is what is still to be published,
`outbox_sent` what was (a partition a day), `consumed` what was handled, `parked` what could not be.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class MessagingTables:
    """One service's messaging tables."""

    schema: str
    outbox: Table
    outbox_sent: Table
    consumed: Table
    parked: Table


def _message_columns() -> list[Column[object]]:
    return [
        # Text: a foreign publisher's event id need not be a UUID, and a retry keeps it.
        Column("event_id", Text, nullable=False),
        Column("exchange", Text, nullable=False),
        Column("routing_key", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
        Column("mandatory", Boolean, nullable=False, server_default=text("false")),
        Column("body", LargeBinary, nullable=False),
        # The event's own time, AMQP's timestamp: a retry keeps the first.
        Column("created_at", DateTime(timezone=True), nullable=False),
    ]


def messaging_tables(metadata: MetaData) -> MessagingTables:
    """Add the four tables to a service's metadata, whose `schema` must be set."""
    if metadata.schema is None:
        raise ValueError("MetaData(schema=…): name the service's schema")
    outbox = Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        *_message_columns(),
        Column("due", DateTime(timezone=True), nullable=False),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("problem", Text),
        Index("outbox_due", "due", "id"),
    )
    outbox_sent = Table(
        "outbox_sent",
        metadata,
        Column("id", BigInteger, nullable=False),
        *_message_columns(),
        Column("sent_at", DateTime(timezone=True), nullable=False),
        PrimaryKeyConstraint("sent_at", "id"),
        postgresql_partition_by="RANGE (sent_at)",
    )
    consumed = Table(
        "consumed",
        metadata,
        Column("queue", Text, primary_key=True),
        # Two publishers may number their events alike, and must not hide each other's.
        Column("publisher", Text, primary_key=True),
        Column("event_id", Text, primary_key=True),
        Column("consumed_at", DateTime(timezone=True), nullable=False, index=True),
    )
    parked = Table(
        "parked",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("queue", Text, nullable=False),
        Column("publisher", Text, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("routing_key", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("published_at", DateTime(timezone=True), nullable=False),
        Column("reason", Text, nullable=False),
        Column("traceback", Text, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("first_at", DateTime(timezone=True), nullable=False),
        Column("last_at", DateTime(timezone=True), nullable=False),
        Column("replayed_at", DateTime(timezone=True)),
        UniqueConstraint("queue", "publisher", "event_id"),
    )
    return MessagingTables(metadata.schema, outbox, outbox_sent, consumed, parked)
