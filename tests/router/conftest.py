"""The router's own connections to a migrated database."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailroom import database as databases
from mailroom_router.settings import RouterSettings
from tests.installation import Database


@pytest.fixture
def settings(database: Database) -> RouterSettings:
    """As the running service has them; no broker is asked."""
    return RouterSettings.model_validate(
        {"database_url": database.url("router"), "broker_url": "amqp://router@127.0.0.1/"}
    )


@pytest.fixture
async def engine(settings: RouterSettings) -> AsyncIterator[AsyncEngine]:
    """With the router's own role."""
    made = databases.engine(settings.database_url, "router tests")
    yield made
    await made.dispose()


@pytest.fixture
async def tx(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back."""
    async with engine.connect() as connection:
        yield connection
