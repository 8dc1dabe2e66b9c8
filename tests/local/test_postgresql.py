from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest

from deploy import local
from tests.installation import OWNER, Database
from tests.waiting import until


@pytest.fixture
def empty(postgresql: local.Servers) -> Iterator[Database]:
    """A database in which nothing was migrated."""
    name = f"mailroom_empty_{uuid4().hex}"
    local.create_database(postgresql, name)
    yield Database(postgresql.postgresql, name)
    local.drop_database(postgresql, name)


async def connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, timeout=10)


async def test_the_owner_makes_a_schema_and_a_service_uses_what_it_was_granted(
    empty: Database,
) -> None:
    owner = await connect(empty.url(OWNER))
    await owner.execute(
        "CREATE SCHEMA router; CREATE TABLE router.mails (id int);"
        "GRANT USAGE ON SCHEMA router TO mailroom_router;"
        "GRANT INSERT ON router.mails TO mailroom_router"
    )
    await owner.close()
    service = await connect(empty.url("router"))
    await service.execute("INSERT INTO router.mails VALUES (1)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute("DELETE FROM router.mails")
    await service.close()
    other = await connect(empty.url("fetcher"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="schema router"):
        await other.fetch("SELECT FROM router.mails")
    await other.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "SET ROLE mailroom",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_a_service_may_not(empty: Database, statement: str) -> None:
    service = await connect(empty.url("router"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(statement)
    await service.close()


@pytest.mark.parametrize("elsewhere", ["postgres", "template1"])
async def test_a_service_cannot_connect_elsewhere(
    postgresql: local.Servers, elsewhere: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await connect(Database(postgresql.postgresql, elsewhere).url("router"))


async def test_a_wrong_password_is_refused(empty: Database) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(empty.url("router").replace("router-secret", "wrong"))


async def test_roles_can_be_made_again_with_another_password(postgresql: local.Servers) -> None:
    for password in ("o'ne", "two"):
        local.create_roles(
            postgresql, ["a-service"], {OWNER: f"{OWNER}-secret", "a-service": password}
        )
    local.create_database(postgresql, "for a service")
    server = postgresql.postgresql
    service = await asyncpg.connect(
        host=server.host,
        port=server.port,
        user="mailroom_a_service",
        password="two",
        database="for a service",
    )
    # It ends the session of whoever is still connected.
    local.drop_database(postgresql, "for a service")
    await until(service.is_closed)


def test_a_refused_statement_says_why(postgresql: local.Servers) -> None:
    with pytest.raises(local.SqlRefused, match='database "absent" does not exist'):
        local.create_database(postgresql, "copy", template="absent")
