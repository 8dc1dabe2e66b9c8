"""Which files were uploaded for whom: a publisher attaches no others."""

import sqlalchemy as sa
from alembic import op

from mailroom.migrations import grant_schema

revision = "0003"
down_revision = "0002"

SCHEMA = "sender"


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("publisher", "sha256"),
        schema=SCHEMA,
    )
    op.create_index("ix_sender_uploads_uploaded_at", "uploads", ["uploaded_at"], schema=SCHEMA)
    grant_schema(SCHEMA, role="mailroom_sender")
