"""/metrics, /healthz and /readyz of a process, served by a thread of its own.

Invariant: the thread answers while the event loop is stuck, and then says so: /healthz fails when
the loop has not beaten for 30 seconds, so that Kubernetes restarts a process that only looks alive.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import Gauge, make_wsgi_app

from mailroom.settings import SettingsRefused

TASKS = Gauge("mailroom_tasks", "asyncio tasks of this process: if they only grow, they leak")

STUCK_AFTER = 30.0
BEAT_EVERY = 1.0


@dataclass
class Health:
    """What the endpoints tell; written by the event loop, read by the thread."""

    beaten: float = field(default_factory=time.monotonic)
    not_ready: dict[str, str] = field(default_factory=dict)
    """What is missing, by part: {"router broker": "connection refused"}. Empty is ready."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- its parent's names
        """Probes come every few seconds: no line for each."""


async def beat(health: Health) -> None:
    """Show for ever that the event loop turns."""
    while True:
        health.beaten = time.monotonic()
        TASKS.set(len(asyncio.all_tasks()))
        await asyncio.sleep(BEAT_EVERY)


def _application(health: Health) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    metrics = make_wsgi_app()

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                served: Iterable[bytes] = metrics(environ, start)
                return served
            case "/healthz":
                stuck = time.monotonic() - health.beaten
                faults = [f"event loop stuck for {stuck:.0f} s"] if stuck > STUCK_AFTER else []
            case "/readyz":
                faults = [f"{part}: {why}" for part, why in sorted(health.not_ready.items())]
            case _:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/metrics, /healthz, /readyz\n"]
        start("503 Service Unavailable" if faults else "200 OK", [("Content-Type", "text/plain")])
        return ["".join(f"{line}\n" for line in faults or ["ok"]).encode()]

    return answer


@contextmanager
def serving(address: str, health: Health) -> Iterator[tuple[str, int]]:
    """Serve on `host:port` until the end; yields the address taken.

    Raises SettingsRefused if it is not to be had.
    """
    host, _, port = address.rpartition(":")
    try:
        server = make_server(host, int(port), _application(health), _Server, _Quiet)
    except (OSError, OverflowError) as failed:
        why = getattr(failed, "strerror", None) or failed
        remedy = "give each process a host:port of its own; port 0 takes a free one"
        raise SettingsRefused(f"MAILROOM_HTTP is {address!r}: {why}; {remedy}") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="http", daemon=True)
    thread.start()
    try:
        yield host, server.server_port
    finally:
        server.shutdown()
        server.server_close()
