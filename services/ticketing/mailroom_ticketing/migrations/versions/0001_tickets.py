"""Ticket queues, tickets and their mails, what was sent for them and what became of it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None

SCHEMA = "ticketing"


def upgrade() -> None:
    create_messaging_tables(SCHEMA)
    _ticket_queues()
    _tickets()
    _mails()
    _conversations()
    _decisions()
    _requests()
    grant_schema(SCHEMA, role="mailroom_ticketing")


def _when(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _references(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(f"{SCHEMA}.{column}")


def _ticket_queues() -> None:
    op.create_table(
        "ticket_queue",
        sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("acknowledge", sa.Boolean, nullable=False),
        _when("created_at"),
        sa.CheckConstraint("language IN ('de', 'en')", name="ticket_queue_language"),
        schema=SCHEMA,
    )
    op.create_index(
        "ticket_queue_name", "ticket_queue", [sa.text("lower(name)")], unique=True, schema=SCHEMA
    )
    op.create_table(
        "feed",
        sa.Column("mailbox", sa.Uuid, primary_key=True),
        sa.Column(
            "ticket_queue", sa.Integer, _references("ticket_queue.id"), nullable=False, index=True
        ),
        schema=SCHEMA,
    )


def _tickets() -> None:
    op.create_table(
        "ticket",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("ticket_queue", sa.Integer, _references("ticket_queue.id"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("customer", JSONB),
        sa.Column("subject", sa.Text, nullable=False),
        _when("created_at"),
        _when("updated_at"),
        _when("last_incoming_at", nullable=True),
        sa.CheckConstraint("state IN ('new', 'open', 'waiting', 'closed')", name="ticket_state"),
        sa.CheckConstraint(
            "priority IN ('low', 'normal', 'high', 'urgent')", name="ticket_priority"
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "ticket_by_queue_and_state",
        "ticket",
        ["ticket_queue", "state", "number"],
        schema=SCHEMA,
    )


def _mails() -> None:
    op.create_table(
        "mail",
        sa.Column("mail", sa.Uuid, primary_key=True),
        sa.Column("ticket", sa.BigInteger, _references("ticket.number"), index=True),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("references", ARRAY(sa.Text), nullable=False),
        sa.Column("senders", ARRAY(sa.Text), nullable=False),
        sa.Column("recipients", ARRAY(sa.Text), nullable=False),
        sa.Column("author", JSONB),
        sa.Column("customer", JSONB),
        sa.Column("subject", sa.Text, nullable=False),
        _when("date", nullable=True),
        sa.Column("auto", sa.Text, nullable=False),
        sa.Column("backfill", sa.Boolean, nullable=False),
        sa.Column("raw_sha256", sa.Text, nullable=False),
        sa.Column("raw_size", sa.BigInteger, nullable=False),
        _when("received_at"),
        sa.Column("correlation_id", sa.Text, nullable=False, index=True),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        _when("decided_at"),
        schema=SCHEMA,
    )


def _conversations() -> None:
    op.create_table(
        "message_id",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("mail", sa.Uuid, _references("mail.mail"), nullable=False),
        sa.Column("own", sa.Boolean, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "participant",
        sa.Column("ticket", sa.BigInteger, _references("ticket.number"), primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        schema=SCHEMA,
    )
    op.create_table(
        "suggestion",
        sa.Column("mail", sa.Uuid, _references("mail.mail"), primary_key=True),
        sa.Column(
            "ticket", sa.BigInteger, _references("ticket.number"), primary_key=True, index=True
        ),
        sa.Column("claim", sa.Text, nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        _when("suggested_at"),
        schema=SCHEMA,
    )


def _decisions() -> None:
    op.create_table(
        "placement",
        sa.Column("placement", sa.Uuid, primary_key=True),
        sa.Column("mail", sa.Uuid, nullable=False, index=True),
        sa.Column("mailbox", sa.Uuid, nullable=False),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        sa.Column("ticket", sa.BigInteger, _references("ticket.number")),
        sa.Column("withheld", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False, index=True),
        _when("received_at"),
        _when("decided_at"),
        schema=SCHEMA,
    )


def _requests() -> None:
    op.create_table(
        "request",
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column(
            "ticket", sa.BigInteger, _references("ticket.number"), nullable=False, index=True
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ticket_queue", sa.Integer, _references("ticket_queue.id"), nullable=False),
        sa.Column("correspondent", sa.Text, nullable=False),
        sa.Column("answers", sa.Uuid, index=True),
        sa.Column("send", JSONB, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False, index=True),
        _when("requested_at"),
        schema=SCHEMA,
    )
    op.create_index(
        "request_automatic",
        "request",
        ["correspondent", "requested_at"],
        postgresql_where=sa.text("kind = 'acknowledgement'"),
        schema=SCHEMA,
    )
    op.create_table(
        "outcome",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("idempotency_key", sa.Text, nullable=False, index=True),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("mail", sa.Uuid, index=True),
        sa.Column("words", sa.Text, nullable=False),
        _when("at"),
        schema=SCHEMA,
    )
