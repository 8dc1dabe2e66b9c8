"""Migrations: one Alembic environment per service, all run under one lock, then the broker's part.

Invariant: no service creates anything. The owner role makes schema, tables and grants, and the
owner's broker user declares exchange, queues and bindings before any publisher starts, since
RabbitMQ confirms what it could not route. All schemas are brought up to date in one transaction, or
none is.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import as_file, files
from typing import Any

import aio_pika
from alembic import command, context, op
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from mailroom import database
from mailroom.crashpoints import crashpoint
from mailroom.messaging import topology
from mailroom.messaging.migration import create_messaging_tables
from mailroom.service import Service
from mailroom.settings import OwnerSettings

__all__ = ["create_messaging_tables", "grant_schema", "migrate", "run_in_env"]

LOCK = 0x6D61696C  # "mail": no two migrations at once
_IDLE_WITHIN = 300.0
"""Seconds: a machine that starts many things may have no time for this one."""


class DatabaseNewer(Exception):
    """A schema was migrated by a newer version than this one, and is left as it is."""

    def __init__(self, schema: str, revision: str) -> None:
        self.schema, self.revision = schema, revision
        super().__init__(f"schema {schema} is at revision {revision!r}, which nobody here knows")


def run_in_env(metadata: MetaData) -> None:
    """The whole body of a service's `migrations/env.py`."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=metadata.schema,
        include_schemas=True,
        transaction_per_migration=False,
    )
    context.run_migrations()


def grant_schema(schema: str, role: str) -> None:
    """Let a service's role use what the owner made in its schema, and no more."""
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    op.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}")


def _upgrade(connection: Connection, services: Iterable[Service[Any]]) -> None:
    for service in services:
        schema = database.schema_of(service.name)
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
        with as_file(
            files(service.settings.__module__.partition(".")[0]) / "migrations"
        ) as scripts:
            config = Config()
            config.set_main_option("script_location", str(scripts).replace("%", "%%"))
            config.attributes["connection"] = connection
            _refuse_newer(connection, schema, ScriptDirectory.from_config(config))
            command.upgrade(config, "head")


def _refuse_newer(connection: Connection, schema: str, scripts: ScriptDirectory) -> None:
    there = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    known = {script.revision for script in scripts.walk_revisions()}
    for revision in there.get_current_heads():
        if revision not in known:
            raise DatabaseNewer(schema, revision)


async def migrate_database(
    owner: OwnerSettings, services: Sequence[Service[Any]], waits: Callable[[], object] = bool
) -> None:
    """Bring every service's schema up to date, in one transaction. Safe to run twice at once.

    `waits` is called where another one runs, which is waited for. Raises DatabaseNewer.
    """
    connections = database.engine(
        owner.database_url, "mailroom migrate", connections=1, idle_within=_IDLE_WITHIN
    )
    lock = {"lock": LOCK}
    try:
        async with connections.begin() as tx:
            if not await tx.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock):
                waits()
                await tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), lock)
            await tx.run_sync(_upgrade, services)
    finally:
        await connections.dispose()


async def declare_topology(owner: OwnerSettings, services: Sequence[Service[Any]]) -> None:
    """Declare exchanges, queues and bindings. Declaring again changes nothing."""
    connection = await aio_pika.connect(str(owner.broker_url), timeout=30)
    async with connection:
        await topology.declare(connection, services)


async def migrate(
    owner: OwnerSettings, services: Sequence[Service[Any]], waits: Callable[[], object] = bool
) -> None:
    """What `mailroom migrate` does. As `migrate_database`."""
    await migrate_database(owner, services, waits)
    crashpoint("migrate.database_committed")
    await declare_topology(owner, services)
