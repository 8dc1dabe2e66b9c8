"""The migrations make exactly what the code believes in, once, whoever runs them at once."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic_core import Url
from sqlalchemy import Connection, text

from deploy.local import role_of
from mailroom.database import engine, schema_of
from mailroom.migrations import migrate, migrate_database
from mailroom.service import Service, installed
from mailroom.settings import OwnerSettings
from tests.installation import OWNER, Broker, Database

SERVICES = installed()


def owner_of(database: Database, broker_url: str = "amqp://nobody@127.0.0.1/") -> OwnerSettings:
    return OwnerSettings.model_validate(
        {"database_url": database.url(OWNER), "broker_url": broker_url}
    )


@pytest.mark.parametrize("name", SERVICES)
async def test_migrations_make_the_tables_that_the_code_has(database: Database, name: str) -> None:
    service = SERVICES[name]
    connections = engine(Url(database.superuser_url), "test", connections=1)
    async with connections.connect() as connection:
        differences = await connection.run_sync(lambda sync: _differences(sync, service))
    await connections.dispose()
    assert differences == []


def _differences(connection: Connection, service: Service) -> list[object]:  # type: ignore[type-arg]
    schema = schema_of(service.name)

    def ours(name: str | None, kind: str, parents: object) -> bool:
        if kind == "schema":
            return name == schema
        # Day partitions come and go; the version table is Alembic's.
        return not (kind == "table" and str(name).startswith(("outbox_sent_", "alembic_version")))

    context = MigrationContext.configure(
        connection, opts={"include_schemas": True, "include_name": ours, "compare_type": True}
    )
    return list(compare_metadata(context, service.metadata))


async def test_migrating_again_and_twice_at_once_changes_nothing(database: Database) -> None:
    """Default overridden: Alembic takes no lock."""
    owner, services = owner_of(database), list(SERVICES.values())
    await asyncio.gather(migrate_database(owner, services), migrate_database(owner, services))


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_may_create_nothing_and_see_no_other_schema(
    database: Database, name: str
) -> None:
    connections = engine(Url(database.url(name)), "test", connections=1)
    async with connections.connect() as connection:
        for other in SERVICES:
            tables = await connection.scalars(
                text(
                    "SELECT table_name FROM information_schema.table_privileges"
                    " WHERE grantee = :role AND table_schema = :schema"
                ),
                {"role": role_of(name), "schema": schema_of(other)},
            )
            if other != name:
                # The directory's views are the one exception.
                assert all(table.endswith("_v1") for table in tables), other
        may_create = await connection.scalar(
            text("SELECT has_schema_privilege(:schema, 'CREATE')"), {"schema": schema_of(name)}
        )
    await connections.dispose()
    assert may_create is False


async def test_the_brokers_part_can_be_declared_again(database: Database, broker: Broker) -> None:
    owner = owner_of(database, broker.url(OWNER))
    await migrate(owner, list(SERVICES.values()))
    await migrate(owner, list(SERVICES.values()))
