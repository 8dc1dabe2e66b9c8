"""The tally."""

import sqlalchemy as sa
from alembic import op

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables("tally")
    op.create_table(
        "sender",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("mails", sa.BigInteger, nullable=False),
        schema="tally",
    )
    grant_schema("tally", role="mailroom_tally")
