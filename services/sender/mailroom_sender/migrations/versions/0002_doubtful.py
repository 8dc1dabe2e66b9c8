"""Of each recipient, whether nobody knows if it has the mail."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = "sender"


def upgrade() -> None:
    doubtful = sa.Column("doubtful", sa.Boolean, nullable=False, server_default=sa.text("false"))
    op.add_column("recipients", doubtful, schema=SCHEMA)
    # Of whom nobody knows was not written down: anybody of a mail with an unknown end may be meant.
    op.execute(
        """
        UPDATE sender.recipients SET doubtful = true
        FROM sender.requests
        WHERE requests.mail = recipients.mail AND requests.unknowns > 0
            AND requests.ended_at IS NULL AND recipients.state <> 'accepted'
        """
    )
