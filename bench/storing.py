"""A service that does the least that one can: it stores what it hears, and publishes it itself."""

from collections.abc import Sequence
from typing import Any, ClassVar

from alembic.migration import MigrationContext
from alembic.operations import Operations
from pydantic_settings import SettingsConfigDict
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import Contract
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.messaging.migration import create_messaging_tables
from mailroom.messaging.tables import messaging_tables
from mailroom.migrations import grant_schema
from mailroom.service import Resources, Service, Subscription
from mailroom.settings import ServiceSettings

metadata = MetaData(schema="storing")
messaging = messaging_tables(metadata)
notes = Table("notes", metadata, Column("number", Integer, primary_key=True), Column("words", Text))


class Noted(Contract):
    """Something to store."""

    name: ClassVar[str] = "bench.noted"
    publishers: ClassVar[tuple[str, ...]] = ("storing",)

    number: int
    words: str


class StoringSettings(ServiceSettings):
    """What every service reads, and nothing more."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_STORING_", extra="ignore")


async def store(
    tx: AsyncConnection, events: Sequence[Received[Noted]], _resources: Resources[Any]
) -> Sequence[Outgoing]:
    """A row for each."""
    rows = [{"number": each.event.number, "words": each.event.words} for each in events]
    await tx.execute(insert(notes), rows)
    return ()


SERVICE = Service(
    name="storing",
    settings=StoringSettings,
    metadata=metadata,
    messaging=messaging,
    publishes=(Noted,),
    subscriptions=(Subscription(Noted, store),),
)


def create_tables(connection: Connection) -> None:
    """As a migration would; `connection` is the owner's."""
    with Operations.context(MigrationContext.configure(connection)):
        connection.execute(text("CREATE SCHEMA storing"))
        connection.execute(text("CREATE TABLE storing.alembic_version (version_num text)"))
        create_messaging_tables("storing")
        notes.create(connection)
        grant_schema("storing", "mailroom_storing")
