"""The object store returns a reference only for bytes that are on disk, and only right ones."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailroom.objects import (
    ObjectCorrupt,
    ObjectMissing,
    get,
    open_store,
    put,
    put_many,
    put_stream,
    size,
)


async def test_bytes_come_back_under_their_hash(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    assert ref.sha256 == hashlib.sha256(b"a mail").hexdigest()
    assert ref.size == size(store, ref.sha256) == 6
    assert await get(store, ref.sha256) == b"a mail"


async def test_many_keep_their_order_and_equal_ones_share_an_object(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    refs = await put_many(store, [b"one", b"two", b"one"])
    assert [await get(store, ref.sha256) for ref in refs] == [b"one", b"two", b"one"]
    assert sum(1 for file in tmp_path.rglob("*") if file.is_file()) == 2


async def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await put_stream(open_store(str(tmp_path)), pieces())
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


async def test_a_stream_is_stored_as_its_whole(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        yield b"and half"

    store = open_store(str(tmp_path))
    ref = await put_stream(store, pieces())
    assert await get(store, ref.sha256) == b"halfand half"


async def test_missing_and_corrupt_objects_are_told_by_name(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(ObjectMissing, match="0000"):
        await get(store, "0" * 64)
    ref = await put(store, b"a mail")
    (tmp_path / ref.sha256[:2] / ref.sha256).write_bytes(b"a lie!")
    with pytest.raises(ObjectCorrupt, match=ref.sha256):
        await get(store, ref.sha256)


async def test_bytes_of_another_length_under_a_known_hash_are_written_again(
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    (tmp_path / ref.sha256[:2] / ref.sha256).write_bytes(b"")
    await put(store, b"a mail")
    assert await get(store, ref.sha256) == b"a mail"


def test_a_store_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        open_store("s3://bucket")
