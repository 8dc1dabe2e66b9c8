"""What runs as `mailroom` in tests is `mailroom`, only sooner."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

REAL = Path(sys.executable).parent

# Output and refusal, by folder, by variable, by standard input, by usage.
COMMANDS = (
    "mailroom settings",
    "mailroom parse --json mail.eml missing.eml",
    "mailroom account list",
    "echo '{}' | mailroom send",
    "mailroom nothing",
    "mailroom",
)


@pytest.mark.parametrize("line", COMMANDS)
def test_it_says_and_ends_with_the_same(programs: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "mail.eml").write_text("Subject: Hello\n\nHello\n")
    assert ran(programs, line, tmp_path) == ran(REAL, line, tmp_path)


@pytest.fixture
def serving(programs: Path, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A service that waits for its servers."""
    environment = {
        "MAILROOM_OBJECTS": str(tmp_path / "objects"),
        "MAILROOM_ROUTER_DATABASE_URL": "postgresql://mailroom_router:x@127.0.0.1:1/mailroom",
        "MAILROOM_ROUTER_BROKER_URL": "amqp://router:x@127.0.0.1:1/mailroom",
    }
    with subprocess.Popen(
        [programs / "mailroom", "serve", "router"], env=environment, stdout=subprocess.PIPE
    ) as running:
        yield running
        running.kill()


def listening(running: "subprocess.Popen[bytes]") -> int:
    """The port of its probes, as soon as it says so."""
    assert running.stdout
    lines = (json.loads(line) for line in running.stdout)
    http = next(str(line["http"]) for line in lines if line["event"] == "listening")
    return int(http.rpartition(":")[2])


def test_it_hears_when_it_is_to_end(serving: "subprocess.Popen[bytes]") -> None:
    listening(serving)
    serving.terminate()
    assert serving.wait(20) == 0


async def test_it_ends_with_who_called_it(serving: "subprocess.Popen[bytes]") -> None:
    port = listening(serving)
    assert answers(port)
    serving.kill()
    await until(lambda: not answers(port))


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ran(path: Path, line: str, folder: Path) -> tuple[int, str, str]:
    environment = {
        "PATH": f"{path}:{REAL}:{os.defpath}",
        "MAILROOM_OBJECTS": "/dev/null",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
