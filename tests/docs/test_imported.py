"""`mailroom` in a terminal of these tests is `mailroom`, only sooner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.conftest import STAND_INS
from tests.docs.imported import VARIABLE

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
def test_it_says_and_ends_with_the_same(mailroom: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "mail.eml").write_text("Subject: Hello\n\nHello\n")
    told = {path: ran(path, line, tmp_path, mailroom) for path in (STAND_INS, real())}
    quick, own = told.values()
    assert quick == own


def real() -> Path:
    return Path(sys.executable).parent


def ran(path: Path, line: str, folder: Path, mailroom: Path) -> tuple[int, str, str]:
    environment = {
        "PATH": f"{path}:{real()}:{os.defpath}",
        "MAILROOM_OBJECTS": "/dev/null",
        VARIABLE: str(mailroom),
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
