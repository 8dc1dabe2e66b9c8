"""The object store returns a reference only for bytes that are on disk, and only right ones."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from errno import ENOSPC
from pathlib import Path

import pytest

from mailroom.objects import (
    ObjectCorrupt,
    ObjectFault,
    ObjectMissing,
    ObjectUnreadable,
    fault_of,
    get,
    open_store,
    put,
    put_many,
    put_stream,
    size,
)
from mailroom.objects_command import _portions


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


async def test_bytes_that_the_disk_does_not_take_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further try would take more of the little that is left."""

    def full(_: int) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    store = open_store(str(tmp_path))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await put(store, b"a mail")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


async def test_a_stream_is_stored_as_its_whole(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        yield b"and half"

    store = open_store(str(tmp_path))
    ref = await put_stream(store, pieces())
    assert await get(store, ref.sha256) == b"halfand half"


@pytest.mark.parametrize("way", ["whole", "in pieces"])
async def test_bytes_and_their_name_are_on_disk_before_anybody_hears_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Only a power cut would show a sync that is missing, so each one is watched, and made."""
    synced: list[Path] = []
    sync = os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a mail"

    store = open_store(str(tmp_path))
    monkeypatch.setattr(os, "fsync", watched)
    ref = await (put(store, b"a mail") if way == "whole" else put_stream(store, pieces()))
    assert [path.parent for path in synced[:1]] == [tmp_path / "new"]
    assert synced[1:] == [tmp_path, tmp_path / ref.sha256[:2]]


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def one_bit_of(file: Path) -> None:
    """As a disk does it: same length, other bytes."""
    bits = bytearray(file.read_bytes())
    bits[0] ^= 1
    file.write_bytes(bits)


def missing(file: Path) -> None:
    file.unlink()


def folder_for(file: Path) -> None:
    """Root reads whatever the rights are; nobody reads a folder as a file."""
    file.unlink()
    file.mkdir()


Damage = Callable[[Path], None]
DAMAGES: dict[Damage, type[ObjectFault]] = {
    empty: ObjectCorrupt,
    truncated: ObjectCorrupt,
    one_bit_of: ObjectCorrupt,
    missing: ObjectMissing,
    folder_for: ObjectUnreadable,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_damaged_bytes_are_never_given_out_and_their_hash_and_a_remedy_are_told(
    tmp_path: Path, damage: Damage
) -> None:
    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    assert await fault_of(store, ref.sha256) is None
    damage(tmp_path / ref.sha256[:2] / ref.sha256)
    with pytest.raises(DAMAGES[damage], match=f"object {ref.sha256} .*backup"):
        await get(store, ref.sha256)
    assert type(await fault_of(store, ref.sha256)) is DAMAGES[damage]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("how", ["whole", "in pieces"])
async def test_writing_the_bytes_again_mends_them_and_keeps_what_lay_there(
    tmp_path: Path, damage: Damage, how: str
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a mail"

    store = open_store(str(tmp_path))
    ref = await put(store, b"a mail")
    file = tmp_path / ref.sha256[:2] / ref.sha256
    damage(file)
    damaged = file.read_bytes() if file.is_file() else None
    again = await (put(store, b"a mail") if how == "whole" else put_stream(store, pieces()))
    assert again == ref
    assert await get(store, ref.sha256) == b"a mail"
    aside = list((tmp_path / "damaged").glob(f"{ref.sha256}.*"))
    assert [each.read_bytes() for each in aside if each.is_file()] == (
        [] if damaged is None else [damaged]
    )
    assert len(aside) == (damage is not missing)


async def test_a_stream_of_bytes_that_are_there_leaves_one_object(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a mail"

    store = open_store(str(tmp_path))
    assert await put(store, b"a mail") == await put_stream(store, pieces())
    assert sum(1 for file in tmp_path.rglob("*") if file.is_file()) == 1


async def test_a_fault_says_which_object_so_that_it_can_be_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(ObjectFault) as raised:
        await get(open_store(str(tmp_path)), "0" * 64)
    assert raised.value.sha256 == "0" * 64


def test_what_is_damaged_is_repaired_a_hundred_at_a_time() -> None:
    lost: dict[str, ObjectFault] = {f"{n:064x}": ObjectMissing(f"{n:064x}") for n in range(250)}
    portions = list(_portions(lost))
    assert [len(one) for one in portions] == [100, 100, 50]
    assert [each for one in portions for each in one] == list(lost)
