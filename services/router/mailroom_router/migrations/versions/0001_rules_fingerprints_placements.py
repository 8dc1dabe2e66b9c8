"""Rules, fingerprints, placements and decisions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables("router")
    _rules()
    _mails()
    _decisions()
    grant_schema("router", role="mailroom_router")


def _rules() -> None:
    op.create_table(
        "rule",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("mailbox", sa.Uuid, nullable=False),
        sa.Column("account", sa.Uuid),
        sa.Column("from_pattern", sa.Text),
        sa.Column("to_pattern", sa.Text),
        sa.Column("subject_pattern", sa.Text),
        sa.Column("header_name", sa.Text),
        sa.Column("header_pattern", sa.Text),
        sa.Column("stop", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(header_name IS NULL) = (header_pattern IS NULL)", name="rule_header_whole"
        ),
        schema="router",
    )
    op.create_index("rule_name", "rule", [sa.text("lower(name)")], unique=True, schema="router")


def _mails() -> None:
    op.create_table(
        "fingerprint",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("mail", sa.Uuid, nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        schema="router",
    )
    op.create_index("fingerprint_mail", "fingerprint", ["mail"], schema="router")
    op.create_table(
        "own_mail",
        sa.Column("mail", sa.Uuid, primary_key=True),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        schema="router",
    )
    _trace_indexes("own_mail")


def _decisions() -> None:
    op.create_table(
        "placement",
        sa.Column("placement", sa.Uuid, primary_key=True),
        sa.Column("mail", sa.Uuid, nullable=False),
        sa.Column("mailbox", sa.Uuid, nullable=False),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("spam", sa.Boolean, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("parsed", sa.Text, nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        schema="router",
    )
    op.create_index("placement_mail", "placement", ["mail"], schema="router")
    op.create_table(
        "arrival",
        sa.Column("arrival", sa.Uuid, primary_key=True),
        sa.Column("placement", sa.Uuid, nullable=False),
        sa.Column("mail", sa.Uuid, nullable=False),
        sa.Column("mailbox", sa.Uuid, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("known_by", sa.Text),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("defects", ARRAY(sa.Text), nullable=False),
        sa.Column("routed_at", sa.DateTime(timezone=True), nullable=False),
        schema="router",
    )
    op.create_index("arrival_mail", "arrival", ["mail"], schema="router")
    _trace_indexes("arrival")


def _trace_indexes(table: str) -> None:
    op.create_index(f"{table}_correlation_id", table, ["correlation_id"], schema="router")
    op.create_index(
        f"{table}_message_id", table, ["message_id"], schema="router", postgresql_using="hash"
    )
