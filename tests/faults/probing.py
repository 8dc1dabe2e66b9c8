"""What the services say of themselves: /readyz on the port that each took, and its log.

Invariant: only what an operator sees too is asked.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.local import guarded
from tests.faults.firm import Firm

_WITHIN = 2.0


def fault(firm: Firm, name: str) -> str:
    """Why a service is not ready; empty when it is."""
    told = [line["http"] for line in said(firm, name) if line.get("event") == "listening"]
    if not told:
        return "it has not said where it listens"
    try:
        with urllib.request.urlopen(f"http://{told[-1]}/readyz", timeout=_WITHIN):
            return ""
    except urllib.error.HTTPError as not_ready:
        return not_ready.read().decode()
    except OSError as gone:
        return str(gone)


def faults(firm: Firm) -> dict[str, str]:
    """Why services are not ready, by their names; empty when all are."""
    found = {name: fault(firm, name) for name in firm.processes}
    return {name: why for name, why in found.items() if why}


def said(firm: Firm, name: str, since: int = 0) -> Iterator[dict[str, Any]]:
    """The lines of a service's log from a byte on."""
    with log_of(firm, name).open("rb") as log:
        log.seek(since)
        for line in log:
            if line.startswith(b"{") and line.endswith(b"}\n"):
                yield json.loads(line)


def logged(firm: Firm) -> dict[str, int]:
    """How long each service's log is."""
    return {name: log_of(firm, name).stat().st_size for name in firm.processes}


def log_of(firm: Firm, name: str) -> Path:
    """It goes on when the service is started again."""
    return firm.it.folder / name / guarded.LOG
