"""What a service says of itself: its log, and its probe.

Invariant: it is asked where operators ask.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from deploy.local import guarded
from tests.faults.firm import PATIENCE, Firm
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
