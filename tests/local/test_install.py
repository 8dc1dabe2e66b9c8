import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import install

ROOT = Path(__file__).parents[2]


def test_it_runs_where_nothing_is_installed_but_python() -> None:
    # -S: without site-packages.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "deploy.local.install"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    assert set(install.FILES) <= set(install.missing(tmp_path))
    there = tmp_path / "usr/lib/postgresql/15/bin/postgres"
    there.parent.mkdir(parents=True)
    there.touch()
    assert "postgresql" not in install.missing(tmp_path)


def test_while_installing_nothing_may_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with install.nothing_starts(policy, tmp_path / "saved"):
        assert subprocess.run([policy], check=False).returncode == 101
    assert list(tmp_path.iterdir()) == []


def test_a_policy_of_the_machine_is_put_back_even_after_a_crash(tmp_path: Path) -> None:
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    policy.write_text("the machine's own")
    with pytest.raises(KeyboardInterrupt), install.nothing_starts(policy, saved):
        raise KeyboardInterrupt
    assert policy.read_text() == "the machine's own"
    # Killed in the middle: both files are there when it is run again.
    policy.rename(saved)
    policy.write_text(install.NOTHING_STARTS)
    with install.nothing_starts(policy, saved):
        pass
    assert policy.read_text() == "the machine's own"
    assert not saved.exists()
