"""Reads mails in a process of its own, which is killed when one takes too long.

Invariant: no mail can stop the router. The event loop is not held up by reading, and a mail that
hangs or crashes its reader costs that reader and its own event, which is tried again and at last
parked; its bytes stay in the object store.
"""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from mailroom import mime, objects
from mailroom.contracts import ObjectRef
from mailroom.messaging.failures import RetryLater
from mailroom_router.mails import Reading

AT_ONCE = 8 * 1024 * 1024
"""Bytes of mails that are in memory together."""


class MailUnread(RetryLater):
    """A mail that was not read in time, or whose reader died."""

    def __init__(self, sha256: str, seconds: float) -> None:
        self.sha256 = sha256
        super().__init__(f"mail {sha256} ended its reader, or took more than {seconds:g} s")


@dataclass
class _Reader:
    """The one reader of this process, started when it is needed. One asks it at a time."""

    process: subprocess.Popen[bytes] | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "reader"))
    """In which it is asked. Not the default ones, which may all be waiting for a name server."""


_READER = _Reader()


async def read(
    store: objects.ObjectStore, mails: Sequence[ObjectRef], seconds: float
) -> list[Reading]:
    """Read mails from the object store, and store what they say as JSON.

    Text and HTML lie there alone. At most `AT_ONCE` bytes of mails, or a larger one, are in memory
    together; these are given `seconds` to be read.
    Raises ObjectFault or MailUnread, of the first mail that has it.
    """
    return [reading for few in _portions(mails) for reading in await _read_few(store, few, seconds)]


def _portions(mails: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
    portion: list[ObjectRef] = []
    size = 0
    for mail in mails:
        if portion and size + mail.size > AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(mail)
        size += mail.size
    if portion:
        yield portion


async def _read_few(
    store: objects.ObjectStore, mails: Sequence[ObjectRef], seconds: float
) -> list[Reading]:
    raws = await asyncio.gather(*(objects.get(store, mail.sha256) for mail in mails))
    hashes = [mail.sha256 for mail in mails]
    try:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(_READER.thread, _read_all, hashes, raws, seconds)
    except asyncio.CancelledError:
        # The thread that asks it would go on, and hold up the end of this process.
        if _READER.process:
            _READER.process.kill()
        raise
    refs = await objects.put_many(store, [whole for _, _, whole in answers])
    return [
        Reading(mime.from_json(brief), fingerprint, ref)
        for (fingerprint, brief, _), ref in zip(answers, refs, strict=True)
    ]


Answer = tuple[str, bytes, bytes]
"""Fingerprint, and the mail as JSON: without text and HTML, and whole."""


def _read_all(names: Sequence[str], raws: Sequence[bytes], seconds: float) -> list[Answer]:
    process = _running()
    # One limit for all: if they exceed it the batch fails, and is handled event by event.
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    try:
        return [_ask(process, name, raw, seconds) for name, raw in zip(names, raws, strict=True)]
    finally:
        limit.cancel()


def _ask(process: subprocess.Popen[bytes], name: str, raw: bytes, seconds: float) -> Answer:
    try:
        return _answer(process, raw)
    except (EOFError, BrokenPipeError):
        _end(process)
        raise MailUnread(name, seconds) from None


def _running() -> subprocess.Popen[bytes]:
    if _READER.process is None or _READER.process.poll() is not None:
        _READER.process = subprocess.Popen(
            [sys.executable, "-m", "mailroom_router.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    return _READER.process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        # What was not yet written to a dead reader is of no use.
        with suppress(BrokenPipeError):
            if pipe:
                pipe.close()


def _answer(process: subprocess.Popen[bytes], raw: bytes) -> Answer:
    requests, answers = process.stdin, process.stdout
    if requests is None or answers is None:  # for the type checker: both are pipes
        raise EOFError
    requests.write(len(raw).to_bytes(8))
    requests.write(raw)
    requests.flush()
    fingerprint = answers.readline().decode().rstrip("\n")
    return fingerprint, _sized(answers), _sized(answers)


def _sized(stream: IO[bytes]) -> bytes:
    return _exactly(stream, int.from_bytes(_exactly(stream, 8)))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
