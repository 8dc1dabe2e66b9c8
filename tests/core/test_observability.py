"""What the logs say, and what they never do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FAILS = """
import logging, sys
import structlog
from mailroom.observability import configure_logs

configure_logs("INFO", sys.argv[1])
log = structlog.get_logger("mailroom.test")

def log_in(password):
    body = "Dear Sir"
    raise ValueError("refused")

def attempt():
    try:
        log_in("hunter2")
    except ValueError as refused:
        log.exception("task_failed", error=str(refused))
        logging.getLogger("library").exception("it failed")
log.debug("unseen")
log.info("started", services=["router"])
attempt()
"""


def said(style: str) -> str:
    command = [sys.executable, "-c", FAILS, style]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_shows_where_it_failed_and_no_values(style: str) -> None:
    """Default overridden: structlog writes every variable of every frame into the log."""
    lines = said(style)
    assert lines.count("log_in") >= 2
    assert "refused" in lines
    assert "hunter2" not in lines
    assert "Dear Sir" not in lines


def test_each_line_is_one_object_with_its_code_level_origin_and_time() -> None:
    lines = [json.loads(line) for line in said("json").splitlines()]
    told = [(line["event"], line["level"], line["logger"]) for line in lines]
    assert told == [
        ("started", "info", "mailroom.test"),
        ("task_failed", "error", "mailroom.test"),
        ("it failed", "error", "library"),
    ]
    assert lines[0]["services"] == ["router"]
    assert all(line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_log_that_cannot_be_written_stops_nothing(style: str) -> None:
    """A full disk, or a collector that is gone: what is being sent meanwhile must be settled."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", f"{FAILS}\nprint('went on', file=sys.stderr)", style],
            check=False, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert "went on" in done.stderr
