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
from functools import partial
from math import ceil
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import Counter

from mailroom.contracts import ObjectRef
from mailroom.crashpoints import crashpoint

log = structlog.get_logger("mailroom.objects")

FAULTS = Counter("mailroom_object_faults", "Reads of objects that failed, by why", ["fault"])

PIECE = 1024 * 1024
THREADS = 16
"""fsync releases the interpreter: 16 threads bring 7,460 objects/s where one brings 3,080."""
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
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
    )


def open_store(location: str) -> ObjectStore:
    """The store at a path or `file://` URL; its folder is made if missing."""
    root = Path(location.removeprefix("file://"))
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


def _path(store: ObjectStore, sha256: str) -> str:
    # No Path here and below: to make and open them takes half as long again as what the disk does.
    return f"{store.root}/{sha256[:2]}/{sha256}"


def _sync_folders(folders: Iterable[str]) -> None:
    # One after another: the first sync writes the journal, with what all the others wait for.
    for folder in folders:
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(store: ObjectStore, data: bytes) -> str:
    """A new file with these bytes, synced; none is left if that fails."""
    written = f"{store.root}/new/{uuid4().hex}"
    handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except BaseException:
        os.unlink(written)
        raise
    finally:
        os.close(handle)
    return written


def _adopt(store: ObjectStore, written: str, sha256: str, fault: ObjectFault | None) -> str:
    """Give a written file its name, where `fault` is what lies there; the folder it is in then."""
    crashpoint("objects.written")
    target = _path(store, sha256)
    match fault:
        case None:
            os.unlink(written)
        case ObjectMissing():
            _rename(store, written, target)
        case _:
            _set_aside(store, target)
            crashpoint("objects.set_aside")
            _rename(store, written, target)
    crashpoint("objects.renamed")
    return os.path.dirname(target)


def _rename(store: ObjectStore, written: str, target: str) -> None:
    try:
        os.rename(written, target)
    except FileNotFoundError:
        Path(target).parent.mkdir(exist_ok=True)
        _sync_folder(str(store.root))
        os.rename(written, target)


def _set_aside(store: ObjectStore, damaged: str) -> None:
    folder, name = store.root / "damaged", os.path.basename(damaged)
    folder.mkdir(exist_ok=True)
    aside = folder / f"{name}.{uuid4().hex[:8]}"
    # Another replica may mend it at the same moment.
    with suppress(FileNotFoundError):
        os.rename(damaged, aside)
        log.warning("object_mended", object=name, damaged_bytes=str(aside))


def _put_some(store: ObjectStore, blobs: Sequence[bytes]) -> list[tuple[ObjectRef, str]]:
    return [_put_one(store, blob) for blob in blobs]


def _put_one(store: ObjectStore, data: bytes) -> tuple[ObjectRef, str]:
    ref = ObjectRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    fault = _fault_of(store, ref.sha256)
    if fault is None:
        return ref, os.path.dirname(_path(store, ref.sha256))
    return ref, _adopt(store, _write(store, data), ref.sha256, fault)


async def put_many(store: ObjectStore, blobs: Sequence[bytes]) -> list[ObjectRef]:
    """Store blobs, in order. All are on disk when this returns; each folder is synced once."""
    loop = asyncio.get_running_loop()
    # A share for each thread: handing over and waking for each blob costs as much as writing it.
    size = ceil(len(blobs) / THREADS)
    shares = [blobs[start : start + size] for start in range(0, len(blobs), size or 1)]
    stored = await asyncio.gather(
        *(loop.run_in_executor(store.threads, _put_some, store, share) for share in shares)
    )
    folders = {folder for share in stored for _, folder in share}
    await loop.run_in_executor(store.threads, _sync_folders, folders)
    return [ref for share in stored for ref, _ in share]


async def put(store: ObjectStore, data: bytes) -> ObjectRef:
    """Store one blob."""
    return (await put_many(store, [data]))[0]


async def put_stream(store: ObjectStore, pieces: AsyncIterable[bytes]) -> ObjectRef:
    """Store what `pieces` yields, one piece in memory at a time; nothing is kept if it raises."""
    in_thread = partial(asyncio.get_running_loop().run_in_executor, store.threads)
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(dir=store.root / "new")
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in pieces:
                digest.update(piece)
                size += len(piece)
                await in_thread(file.write, piece)
            file.flush()
            await in_thread(os.fsync, file.fileno())
    except BaseException:
        await in_thread(os.unlink, name)
        raise
    ref = ObjectRef(sha256=digest.hexdigest(), size=size)
    await in_thread(_take_in, store, name, ref.sha256)
    return ref


def _take_in(store: ObjectStore, written: str, sha256: str) -> None:
    _sync_folder(_adopt(store, written, sha256, _fault_of(store, sha256)))


def _get(store: ObjectStore, sha256: str) -> bytes:
    try:
        with open(_path(store, sha256), "rb", buffering=0) as file:
            data = file.read()
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
        with open(_path(store, sha256), "rb", buffering=0) as file:
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
        return os.stat(_path(store, sha256)).st_size
    except FileNotFoundError as missing:
        raise ObjectMissing(sha256) from missing
    except OSError as unreadable:
        raise ObjectUnreadable(sha256, unreadable) from unreadable
