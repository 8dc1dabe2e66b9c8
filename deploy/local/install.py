"""Install the Debian packages of the private servers: `python3 -m deploy.local.install`.

Invariant: nothing is started. Debian starts what it installs, on the default ports, and at the next
boot again: neither may happen on the machine of somebody who only wanted to try Mailroom.

It runs before anything of Mailroom is installed, so it imports only Python's own.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.guarded import may_sudo

POLICY = Path("/usr/sbin/policy-rc.d")
SAVED = Path("/usr/sbin/policy-rc.d.before-mailroom")
NOTHING_STARTS = "#!/bin/sh\n# While Mailroom's servers are being installed.\nexit 101\n"

FILES = {
    "rabbitmq-server": "usr/lib/rabbitmq/bin/rabbitmq-server",
    "postgresql": "usr/lib/postgresql/*/bin/postgres",
    "dovecot-imapd": "usr/lib/dovecot/imap",
    "dovecot-lmtpd": "usr/lib/dovecot/lmtp",
    "postfix": "usr/sbin/postfix",
}
"""Package → a file of it: looked for, since dpkg takes longer to ask."""
UNITS = {
    "rabbitmq-server": ["rabbitmq-server.service", "epmd.service", "epmd.socket"],
    "postgresql": ["postgresql.service"],
    "dovecot-imapd": ["dovecot.service", "dovecot.socket"],
    "postfix": ["postfix.service"],
}
# Only Internet sites have mailers; without an answer apt would ask a person.
ANSWERS = "postfix postfix/main_mailer_type select No configuration\n"


class CannotInstall(Exception):
    """The message is one line: what is wrong, and what to do."""


def missing(root: Path = Path("/")) -> list[str]:
    """The packages that are not there."""
    absent = [package for package, file in FILES.items() if not any(root.glob(file))]
    if importlib.util.find_spec("ensurepip") is None:
        absent.append("python3-venv")
    return absent


def install(packages: Sequence[str]) -> None:
    """Install by apt, as root. Raises CannotInstall."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with nothing_starts():
        if "postfix" in packages:
            _run(["debconf-set-selections"], environment, ANSWERS)
        _run(["apt-get", "update"], environment)
        options = ["--yes", "--no-install-recommends"]
        _run(["apt-get", "install", *options, *packages], environment)
    _keep_from_starting_at_boot(packages)


@contextmanager
def nothing_starts(policy: Path = POLICY, saved: Path = SAVED) -> Iterator[None]:
    """Let invoke-rc.d start nothing; what stood there before is put back, also after a crash."""
    if policy.exists() and not saved.exists():
        policy.rename(saved)
    policy.write_text(NOTHING_STARTS, encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        if saved.exists():
            saved.replace(policy)
        else:
            policy.unlink()


def _keep_from_starting_at_boot(packages: Sequence[str]) -> None:
    if shutil.which("systemctl") is None:
        return
    for unit in (unit for package in packages for unit in UNITS.get(package, [])):
        # Not every release has every unit.
        subprocess.run(["systemctl", "--quiet", "disable", unit], capture_output=True, check=False)


def _run(command: Sequence[str], environment: dict[str, str], text: str = "") -> None:
    """Quietly, unless it fails."""
    done = subprocess.run(
        command,
        env=environment,
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise CannotInstall(f"{command[0]} failed, see above; install by hand and try again")


def _as_root(packages: Sequence[str]) -> None:
    """Install, by `sudo -n` where this is not root. Raises CannotInstall."""
    by_hand = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise CannotInstall(f"no apt here; on Debian 12 or Ubuntu 24.04: {by_hand}")
    if os.geteuid() == 0:
        print(f"Installing {', '.join(packages)}: a minute or so …", flush=True)
        return install(packages)
    if not may_sudo():
        raise CannotInstall(f"root is needed to install; run: sudo {by_hand}")
    again = ["sudo", "-n", sys.executable, "-m", "deploy.local.install"]
    if subprocess.run(again, check=False).returncode:
        raise CannotInstall(f"it did not work by sudo; run: sudo {by_hand}")
    return None


def main() -> int:
    """Install what is missing; says nothing if nothing is."""
    if absent := missing():
        try:
            _as_root(absent)
        except CannotInstall as cannot:
            print(f"mailroom: {cannot}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
