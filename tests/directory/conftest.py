"""What tests of the directory share: an installation with a mailbox, and its roles."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from pydantic_core import Url
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import database as connections
from tests.installation import Database

As = Callable[[str], AbstractAsyncContextManager[AsyncConnection]]


@pytest.fixture
def as_(database: Database) -> As:
    """A transaction with a service's own role: `async with as_("router") as tx`."""

    @asynccontextmanager
    async def transaction(service: str) -> AsyncIterator[AsyncConnection]:
        engine = connections.engine(Url(database.url(service)), "test", connections=1)
        try:
            async with engine.begin() as tx:
                yield tx
        finally:
            await engine.dispose()

    return transaction
