"""The messaging tables as a migration makes them, and the only DDL that a service may cause.

Invariant: a service's role has no right to create or drop. The two functions here run as the owner
with a fixed search path, and can do nothing but make a day of `outbox_sent`, or drop old ones.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB


def create_messaging_tables(schema: str) -> None:
    """Make outbox, outbox_sent, consumed and parked in `schema`. Call it in a service's 0001."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        *_message_columns(),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("problem", sa.Text),
        schema=schema,
    )
    op.create_index("outbox_due", "outbox", ["due", "id"], schema=schema)
    op.create_table(
        "outbox_sent",
        sa.Column("id", sa.BigInteger, nullable=False),
        *_message_columns(),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sent_at", "id"),
        schema=schema,
        postgresql_partition_by="RANGE (sent_at)",
    )
    op.create_table(
        "consumed",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("publisher", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("consumed_at", sa.DateTime(timezone=True), nullable=False),
        schema=schema,
    )
    op.create_index(f"ix_{schema}_consumed_consumed_at", "consumed", ["consumed_at"], schema=schema)
    op.create_table(
        "parked",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("routing_key", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replayed_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("queue", "publisher", "event_id"),
        schema=schema,
    )
    for statement in _day_functions(schema):
        op.execute(statement)


def _message_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("exchange", sa.Text, nullable=False),
        sa.Column("routing_key", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("headers", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("mandatory", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _day_functions(schema: str) -> list[str]:
    """Days are UTC's; names sort as their days do. The lock is for replicas at midnight."""
    namespace = f"'{schema}'::regnamespace"
    make = f"{schema}.make_outbox_day(moment timestamptz)"
    drop = f"{schema}.drop_outbox_days(before timestamptz)"
    head = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    # Not to_regclass: under the lock it would still answer from what it has cached.
    there = f"EXISTS (SELECT FROM pg_class WHERE relnamespace = {namespace} AND relname = name)"
    lock = f"PERFORM pg_advisory_xact_lock(hashtext('{schema}'), hashtext('outbox_sent'));"
    return [
        f"""
        CREATE FUNCTION {make} RETURNS void {head} AS $function$
        DECLARE
            day timestamp := date_trunc('day', moment AT TIME ZONE 'UTC');
            name text := 'outbox_sent_' || to_char(day, 'YYYYMMDD');
        BEGIN
            IF {there} THEN
                RETURN;
            END IF;
            {lock}
            IF NOT {there} THEN
                EXECUTE format(
                    'CREATE TABLE {schema}.%I PARTITION OF {schema}.outbox_sent '
                    'FOR VALUES FROM (%L) TO (%L)',
                    name, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC');
            END IF;
        END $function$
        """,
        f"""
        CREATE FUNCTION {drop} RETURNS integer {head} AS $function$
        DECLARE
            first_kept text := 'outbox_sent_' || to_char(before AT TIME ZONE 'UTC', 'YYYYMMDD');
            old text;
            dropped integer := 0;
        BEGIN
            {lock}
            FOR old IN
                SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = '{schema}.outbox_sent'::regclass AND c.relname < first_kept
            LOOP
                EXECUTE format('DROP TABLE {schema}.%I', old);
                dropped := dropped + 1;
            END LOOP;
            RETURN dropped;
        END $function$
        """,  # noqa: S608 - the schema is the migration's own
        f"REVOKE EXECUTE ON FUNCTION {schema}.make_outbox_day(timestamptz) FROM PUBLIC",
        f"REVOKE EXECUTE ON FUNCTION {schema}.drop_outbox_days(timestamptz) FROM PUBLIC",
    ]
