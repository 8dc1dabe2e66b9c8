"""The main job, end to end: the story of the demo, each line of it seen to be true."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_mail_becomes_a_ticket_and_the_reply_finds_its_way_back() -> None:
    """By what `make smoke` runs: servers, installation and commands as a person has them."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local", "smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n  true  ") == 12
