"""Probes are answered by a thread: also, and above all, when the event loop is stuck."""

import asyncio
import urllib.error
import urllib.request

import pytest

from mailroom.http import STUCK_AFTER, Health, beat, serving
from mailroom.settings import SettingsRefused
from tests.waiting import until


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_a_process_that_beats_is_healthy_and_ready() -> None:
    with serving("127.0.0.1:0", Health()) as (_, port):
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, "/readyz") == (200, "ok\n")


def test_a_stuck_event_loop_is_told_while_it_is_stuck() -> None:
    health = Health()
    health.beaten -= STUCK_AFTER + 1
    with serving("127.0.0.1:0", health) as (_, port):
        status, told = ask(port, "/healthz")
    assert status == 503
    assert told.startswith("event loop stuck for 31 s")


def test_what_is_missing_is_told_by_name() -> None:
    health = Health(not_ready={"router broker": "connection refused"})
    with serving("127.0.0.1:0", health) as (_, port):
        assert ask(port, "/readyz") == (503, "router broker: connection refused\n")
        assert ask(port, "/healthz")[0] == 200


def test_metrics_are_served_and_other_paths_are_not() -> None:
    with serving("127.0.0.1:0", Health()) as (_, port):
        assert "python_info" in ask(port, "/metrics")[1]
        assert ask(port, "/etc/passwd")[0] == 404


def test_a_taken_port_is_an_error_at_start() -> None:
    with (
        serving("127.0.0.1:0", Health()) as (_, port),
        pytest.raises(SettingsRefused, match="in use; give each process"),
        serving(f"127.0.0.1:{port}", Health()),
    ):
        pass


async def test_the_tasks_of_the_process_are_counted() -> None:
    health = Health()
    beating = [asyncio.create_task(beat(health)) for _ in range(3)]
    with serving("127.0.0.1:0", health) as (_, port):

        async def told() -> bool:
            _, metrics = await asyncio.to_thread(ask, port, "/metrics")
            return f"mailroom_tasks {len(asyncio.all_tasks())}.0\n" in metrics

        await until(told)
    for task in beating:
        task.cancel()
