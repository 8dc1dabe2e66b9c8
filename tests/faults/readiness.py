"""What a service says of itself, by its log and its probe, and whether it has done its work.

Invariant: it is asked where operators ask.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from pydantic_core import Url
from sqlalchemy import func, select

from deploy.local import guarded
from mailroom import database
from mailroom_fetcher.store import arrivals
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import unhandled
from tests.installation import installed_services, queues_of
from tests.waiting import until


async def is_ready(firm: Firm, name: str) -> None:
    """Wait until /readyz says so."""
    await says(firm, name, "ok\n")


async def says(firm: Firm, name: str, why: str) -> None:
    """Wait until /readyz says this."""

    def says_so() -> bool:
        said = _readyz(firm, name)
        assert why in said, said
        return True

    await until(says_so, PATIENCE, every=0.1)


def logged(firm: Firm, name: str, event: str) -> list[dict[str, Any]]:
    """The lines of a process with this code, also of its predecessors."""
    return [line for line in _log(firm, name) if line["event"] == event]


def _readyz(firm: Firm, name: str) -> str:
    listening = logged(firm, name, "listening")
    assert listening, "it does not listen yet"
    try:
        with urllib.request.urlopen(f"http://{listening[-1]['http']}/readyz", timeout=5) as told:
            return str(told.read().decode())
    except urllib.error.HTTPError as unavailable:
        return unavailable.read().decode()


def _log(firm: Firm, name: str) -> Iterator[dict[str, Any]]:
    for line in (firm.it.folder / name / guarded.LOG).read_text().splitlines():
        if line.startswith("{"):
            yield json.loads(line)


async def has_worked(firm: Firm, name: str, within: float = PATIENCE) -> None:
    """Wait until what waits for this service is done, as far as it can be without the others."""
    service = next(each for each in installed_services() if each.name == name)
    queues = {f"not handled: {queue}" for queue in queues_of(service)}
    outbox = service.messaging.outbox
    unpublished = select(func.count()).where(outbox.c.due <= firm.now)
    brought = select(func.count()).select_from(arrivals)
    engine = database.engine(Url(firm.database.superuser_url), "looking", connections=1)

    async def done() -> bool:
        lie = sum(len(firm.uids(each)) for each in (firm.service, firm.sales))
        async with engine.connect() as tx:
            assert not queues & set(await tx.scalars(unhandled()))
            if name == "fetcher":
                assert (await tx.execute(brought)).scalar_one() >= lie
            return not (await tx.execute(unpublished)).scalar_one()

    await until(done, within, every=0.2)
    await engine.dispose()


async def problem_is_told(firm: Firm, words: str) -> None:
    """Wait until `account list` tells such a problem of service's account; empty: none."""

    async def told() -> bool:
        listed = await firm.asks("account", "list", "--json")
        accounts = map(json.loads, listed.splitlines())
        (one,) = (each for each in accounts if each["name"] == firm.service.name)
        return words in one["state"] if words else one["state"] == "ok"

    await until(told, within=PATIENCE)
