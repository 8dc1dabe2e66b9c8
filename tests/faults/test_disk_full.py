"""The object store's disk is full, and then has room again: a real disk, though a small one."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from signal import SIGTERM

import pytest

from deploy.local import guarded
from tests.faults.firm import PATIENCE, Firm
from tests.faults.mails import check, mixed, open_ticket
from tests.faults.outages import number
from tests.waiting import until

HOUR = timedelta(hours=1)
MORE_THAN_ALL_TRIES = 15


@pytest.fixture
def on_a_small_disk(new_firm: Firm, tmp_path: Path) -> Iterator[Firm]:
    """A firm whose object store is a file system of its own, of 40 MB."""
    objects = Path(new_firm.it.environment["MAILROOM_OBJECTS"])
    objects.mkdir(parents=True, exist_ok=True)
    with mounted(tmp_path / "disk", objects, "40m"):
        yield new_firm
        new_firm.kill_all()


@contextmanager
def mounted(folder: Path, there: Path, size: str) -> Iterator[None]:
    """A file system in memory, which ends with the test run, however that ends."""
    here = shlex.quote(str(there))
    mount = f"mount -t tmpfs -o size={size},mode=0777 mailroom-small-disk {here}"
    until_told = f"trap 'umount -l {here}; exit' TERM; sleep infinity & wait"
    program = guarded.Program(
        ["/bin/sh", "-c", f"{mount} || exit 1; {until_told}"],
        {"PATH": os.defpath},
        as_root=True,
        end_signal=SIGTERM,
    )
    with guarded.lifelines([folder]):
        disk = guarded.launch(folder, program)
        guarded.wait(folder, "mounted", lambda: disk.ended or there.is_mount())
        if disk.ended:
            pytest.skip(f"no file system to be had: {(folder / guarded.LOG).read_text().strip()}")
        yield


def fill(firm: Firm) -> None:
    """Leave not one page."""
    with _filler(firm).open("ab", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError as full:
            assert full.errno == errno.ENOSPC  # noqa: PT017 -- that it ends so is the point


def _filler(firm: Firm) -> Path:
    return Path(firm.it.environment["MAILROOM_OBJECTS"], "filler")


async def test_mails_that_find_the_disk_full_are_fetched_when_it_has_room(
    on_a_small_disk: Firm, mails: int
) -> None:
    firm = on_a_small_disk
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older, mails)
    fill(firm)
    await firm.gets(*post.messages)

    async def is_shown() -> bool:
        return "No space left" in await firm.asks("account", "list")

    await until(is_shown, within=PATIENCE)
    _filler(firm).unlink()
    await check(firm, post, older)


@pytest.mark.matrix
async def test_events_that_find_the_disk_full_are_not_parked_however_long_it_is_full(
    on_a_small_disk: Firm,
) -> None:
    firm = on_a_small_disk
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    arrivals = await number(firm, "SELECT count(*) FROM fetcher.arrivals")
    firm.end("router")
    await firm.gets(*post.messages)

    async def fetched() -> bool:
        new = await number(firm, "SELECT count(*) FROM fetcher.arrivals") - arrivals
        return new >= len(post.messages) and not await number(
            firm, "SELECT count(*) FROM fetcher.outbox"
        )

    async def put_off() -> bool:
        later = "SELECT count(*) FROM router.outbox WHERE due > $1"
        return await number(firm, later, firm.now) >= len(post.messages)

    await until(fetched, within=PATIENCE)
    fill(firm)
    firm.start("router")
    for _ in range(MORE_THAN_ALL_TRIES):
        await until(put_off, within=PATIENCE)
        firm.pass_time(HOUR)
    _filler(firm).unlink()
    await check(firm, post, older)
