"""Requests with recipients, attempts and copies; rejections, cancellations, bounces; leases."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None

SCHEMA = "sender"


def upgrade() -> None:
    create_messaging_tables(SCHEMA)
    _requests()
    _recipients()
    _attempts()
    _copies()
    _rejections()
    _cancellations()
    _bounces()
    _leases()
    grant_schema(SCHEMA, role="mailroom_sender")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _mail() -> sa.Column[object]:
    of = sa.ForeignKey("sender.requests.mail", ondelete="CASCADE")
    return sa.Column("mail", sa.Uuid, of, nullable=False)


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("mail", sa.Uuid, primary_key=True),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("asked", JSONB, nullable=False),
        sa.Column("raw_sha256", sa.Text, nullable=False),
        sa.Column("raw_size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        _moment("due", nullable=True),
        sa.Column("waits_for_server", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("unknowns", sa.Integer, nullable=False, server_default=sa.text("0")),
        _moment("first_due"),
        _moment("expires_at", nullable=True),
        _moment("accepted_at"),
        _moment("sent_at", nullable=True),
        _moment("ended_at", nullable=True),
        sa.UniqueConstraint("publisher", "idempotency_key"),
        schema=SCHEMA,
    )
    _index("requests", "correlation_id")
    _index("requests", "message_id")
    is_due, sending = sa.text("due IS NOT NULL"), sa.text("state = 'sending'")
    op.create_index(
        "requests_due", "requests", ["account", "due"], schema=SCHEMA, postgresql_where=is_due
    )
    op.create_index(
        "requests_sending", "requests", ["account"], schema=SCHEMA, postgresql_where=sending
    )
    op.create_index("requests_accepted_at", "requests", ["accepted_at"], schema=SCHEMA)


def _recipients() -> None:
    op.create_table(
        "recipients",
        _mail(),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("code", sa.Integer),
        sa.Column("reply", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("mail", "number"),
        sa.UniqueConstraint("mail", "address"),
        schema=SCHEMA,
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        _mail(),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("replica", sa.Text, nullable=False),
        _moment("started_at"),
        _moment("ended_at", nullable=True),
        sa.Column("offered", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("outcome", sa.Text),
        sa.Column("code", sa.Integer),
        sa.Column("reply", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("mail", "number"),
        schema=SCHEMA,
    )
    op.create_index("attempts_recent", "attempts", ["account", "started_at"], schema=SCHEMA)


def _copies() -> None:
    of = sa.ForeignKey("sender.requests.mail", ondelete="CASCADE")
    op.create_table(
        "copies",
        sa.Column("mail", sa.Uuid, of, primary_key=True),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        _moment("due", nullable=True),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        _moment("created_at"),
        _moment("ended_at", nullable=True),
        sa.Column("folder", sa.Text),
        sa.Column("uidvalidity", sa.BigInteger),
        sa.Column("uid", sa.BigInteger),
        sa.Column("problem", sa.Text, nullable=False, server_default=sa.text("''")),
        schema=SCHEMA,
    )
    is_due = sa.text("due IS NOT NULL")
    op.create_index(
        "copies_due", "copies", ["account", "due"], schema=SCHEMA, postgresql_where=is_due
    )


def _rejections() -> None:
    op.create_table(
        "rejections",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("errors", JSONB, nullable=False),
        _moment("rejected_at"),
        schema=SCHEMA,
    )
    _index("rejections", "event_id")
    _index("rejections", "rejected_at")


def _cancellations() -> None:
    op.create_table(
        "cancellations",
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        _moment("cancelled_at"),
        sa.PrimaryKeyConstraint("publisher", "idempotency_key"),
        schema=SCHEMA,
    )
    _index("cancellations", "cancelled_at")


def _bounces() -> None:
    op.create_table(
        "bounces",
        _mail(),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("report", sa.Uuid, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("hard", sa.Boolean, nullable=False),
        _moment("bounced_at"),
        sa.PrimaryKeyConstraint("mail", "recipient", "report"),
        schema=SCHEMA,
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("work", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("beat", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        _moment("rests_until", nullable=True),
        sa.PrimaryKeyConstraint("account", "work"),
        schema=SCHEMA,
    )


def _index(table: str, column: str) -> None:
    op.create_index(f"ix_{SCHEMA}_{table}_{column}", table, [column], schema=SCHEMA)
