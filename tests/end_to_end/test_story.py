"""The main job, end to end: the story of the demo, each line of it seen to be true."""

import os
import sys
from pathlib import Path
from signal import SIGTERM

from deploy.local import guarded

ROOT = Path(__file__).parents[2]


def test_a_mail_becomes_a_ticket_and_the_reply_finds_its_way_back(tmp_path: Path) -> None:
    """By what `make smoke` runs: servers, installation and commands as a person has them."""
    smoke = guarded.Program(
        [sys.executable, "-m", "deploy.local", "smoke"],
        {**os.environ, "PYTHONPATH": str(ROOT)},
        end_signal=SIGTERM,
    )
    with guarded.lifelines([tmp_path]):
        played = guarded.launch(tmp_path, smoke)
        guarded.wait(tmp_path, "at its end", lambda: played.ended, seconds=300)
    said = (tmp_path / guarded.LOG).read_text()
    assert played.exit_code == 0, said
    assert said.count("\n  true  ") == 12
