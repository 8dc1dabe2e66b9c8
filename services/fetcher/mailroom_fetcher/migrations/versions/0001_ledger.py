"""Leases of accounts, folders with their cursors, and the ledger of arrivals."""

import sqlalchemy as sa
from alembic import op

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None

SCHEMA = "fetcher"


def upgrade() -> None:
    create_messaging_tables(SCHEMA)
    _create_leases()
    _create_ledger()
    grant_schema(SCHEMA, role="mailroom_fetcher")


def _create_leases() -> None:
    op.create_table(
        "replicas",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("alive_until", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "accounts",
        sa.Column("account", sa.Uuid, primary_key=True),
        sa.Column("holder", sa.Text),
        sa.Column("fetch_wanted_at", sa.DateTime(timezone=True)),
        sa.Column("state", sa.Text),
        sa.Column("problem", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("since", sa.DateTime(timezone=True)),
        sa.Column("observed_at", sa.DateTime(timezone=True)),
        schema=SCHEMA,
    )
    op.create_index("ix_fetcher_accounts_holder", "accounts", ["holder"], schema=SCHEMA)


def _create_ledger() -> None:
    op.create_table(
        "folders",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("account", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("uidvalidity", sa.BigInteger),
        sa.Column("next_uid", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("mails", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("reconciled_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("account", "name"),
        schema=SCHEMA,
    )
    op.create_table(
        "arrivals",
        sa.Column("folder", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.folders.id"), primary_key=True),
        sa.Column("uidvalidity", sa.BigInteger, primary_key=True),
        sa.Column("uid", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.Uuid, nullable=False, unique=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("internal_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("backfill", sa.Boolean, nullable=False),
        sa.Column("joins", sa.Uuid),
        sa.Column("problem", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("retry_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("state IN ('published', 'joined', 'parked')", name="arrivals_state"),
        schema=SCHEMA,
    )
    op.create_index("arrivals_bytes", "arrivals", ["folder", "sha256"], schema=SCHEMA)
    op.create_index("arrivals_joins", "arrivals", ["joins"], schema=SCHEMA)
    op.create_index(
        "arrivals_parked",
        "arrivals",
        ["folder"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'parked'"),
    )
