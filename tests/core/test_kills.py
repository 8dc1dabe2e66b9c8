"""Killed while bytes are stored, or half way through a migration: done again, it is whole."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from uuid import uuid4

import aio_pika
import pytest

from deploy import local
from mailroom.messaging import topology
from mailroom.objects import (
    LEFT_BEHIND,
    ObjectMissing,
    ObjectStore,
    fault_of,
    get,
    open_store,
    put,
)
from tests.installation import (
    OWNER,
    PUBLISHERS,
    Broker,
    Database,
    installed_services,
    passwords,
    queues_of,
)

PUT = """
import asyncio, sys
from mailroom.objects import open_store, put
asyncio.run(put(open_store(sys.argv[1]), b"a mail"))
"""


def run(*words: str, crashpoint: str = "", **environment: str) -> None:
    """A program in Python, which dies at the crashpoint if one is named."""
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ | environment | {"MAILROOM_CRASHPOINT": crashpoint},
        check=False,
    )
    assert done.returncode == (-SIGKILL if crashpoint else 0)


@pytest.mark.parametrize(("crashpoint", "there"), [("objects.written", 0), ("objects.renamed", 1)])
async def test_killed_while_bytes_are_stored_all_are_there_or_none(
    tmp_path: Path, crashpoint: str, there: int
) -> None:
    run("-c", PUT, str(tmp_path), crashpoint=crashpoint)
    assert len(files(tmp_path)) == there
    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    assert await get(store, ref.sha256) == b"a mail"


def files(root: Path) -> list[Path]:
    return [file for file in root.rglob("??/*") if file.is_file()]


async def test_killed_while_damaged_bytes_are_mended_they_are_missing_and_can_be_stored_again(
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    path_of(store, ref.sha256).write_bytes(b"a mull")
    run("-c", PUT, str(tmp_path), crashpoint="objects.set_aside")
    assert isinstance(await fault_of(store, ref.sha256), ObjectMissing)
    assert await put(store, b"a mail") == ref
    assert await fault_of(store, ref.sha256) is None


def path_of(store: ObjectStore, sha256: str) -> Path:
    return store.root / sha256[:2] / sha256


def test_what_a_killed_process_was_writing_is_removed_a_day_later(tmp_path: Path) -> None:
    run("-c", PUT, str(tmp_path), crashpoint="objects.written")
    (left,) = (tmp_path / "new").iterdir()
    open_store(str(tmp_path))
    assert left.exists()
    day_before = left.stat().st_mtime - LEFT_BEHIND
    os.utime(left, (day_before, day_before))
    open_store(str(tmp_path))
    assert not left.exists()


@pytest.fixture
def empty(postgresql: local.Servers, rabbitmq: local.Servers) -> Iterator[tuple[Database, Broker]]:
    """A database and a vhost that nobody has migrated."""
    name = f"unmigrated_{uuid4().hex}"
    database, broker = Database(postgresql.postgresql, name), Broker(rabbitmq.rabbitmq, name)
    local.create_database(postgresql, name)
    users = topology.definitions(installed_services(), name, passwords(), PUBLISHERS)
    local.import_definitions(rabbitmq, users)
    yield database, broker
    local.drop_database(postgresql, name)
    local.rabbitmqctl(rabbitmq, "delete_vhost", name)


async def test_killed_between_database_and_broker_a_migration_is_finished_by_the_next(
    empty: tuple[Database, Broker],
) -> None:
    database, broker = empty
    owner = {
        "MAILROOM_OWNER_DATABASE_URL": database.url(OWNER),
        "MAILROOM_OWNER_BROKER_URL": broker.url(OWNER),
    }
    run("-m", "mailroom", "migrate", crashpoint="migrate.database_committed", **owner)
    run("-m", "mailroom", "migrate", **owner)
    async with await aio_pika.connect(broker.url(OWNER), timeout=10) as connection:
        channel = await connection.channel()
        for service in installed_services():
            for queue in queues_of(service):
                await channel.declare_queue(queue, passive=True)
