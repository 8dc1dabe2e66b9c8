"""A revision that changes with whatever the views show: who reads them keeps what was read."""

import sqlalchemy as sa
from alembic import op

from mailroom.migrations import grant_schema

revision = "0002"
down_revision = "0001"

SCHEMA = "directory"
SHOWN = (
    "accounts",
    "servers",
    "folders",
    "mailboxes",
    "mailbox_addresses",
    "publishers",
    "publisher_accounts",
)
READERS = ("router", "ticketing")


def upgrade() -> None:
    op.create_table("revision", sa.Column("id", sa.Uuid, primary_key=True), schema=SCHEMA)
    op.execute("INSERT INTO directory.revision VALUES (gen_random_uuid())")
    # Once a transaction, however many rows it changes.
    op.execute(
        """
        CREATE FUNCTION directory.revise() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE directory.revision SET id = gen_random_uuid()
            WHERE xmin <> pg_current_xact_id()::xid;
            RETURN NULL;
        END $$
        """
    )
    # At commit: two transactions then never wait for each other, each with a row that the other
    # wants. And not by a sequence, whose next value is seen before what it stands for.
    for table in SHOWN:
        op.execute(
            f"""
            CREATE CONSTRAINT TRIGGER revise AFTER INSERT OR UPDATE OR DELETE ON directory.{table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION directory.revise()
            """
        )
    grant_schema(SCHEMA, role="mailroom_directory")
    op.execute("CREATE VIEW directory.revision_v1 AS SELECT id FROM directory.revision")
    for service in READERS:
        op.execute(f"GRANT SELECT ON directory.revision_v1 TO mailroom_{service}")
