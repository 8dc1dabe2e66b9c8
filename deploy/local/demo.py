"""`make demo` and `make smoke`: an installation of its own, and the story played on it.

Invariant: everything that was started ends with this process, and nothing else does.
"""

import signal
import sys
import tempfile
import time
from pathlib import Path

from deploy.local import operating, servers, story
from deploy.local.operating import CommandFailed, Operated

OWN_ACCOUNT = """\
Connect an account of your own, in three commands (it is only read, nothing is marked or removed):
    mailroom mailbox add me --address YOU@YOUR.FIRM
    mailroom account add me --mailbox me --address YOU@YOUR.FIRM \\
        --imap imaps://YOU@IMAP.YOUR.FIRM --smtp smtps://YOU@SMTP.YOUR.FIRM
    mailroom account list"""


def demo() -> int:
    """Play, then stay until Ctrl-C. Returns the exit code."""
    return _run(stay=True)


def smoke() -> int:
    """Play and end; 1 when a line was not true."""
    return _run(stay=False)


def _run(*, stay: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="mailroom-demo-"))
    began = time.monotonic()
    try:
        with servers.running(folder) as running:
            it = operating.prepared(running)
            with operating.served(it, meanwhile=lambda: story.set_up(it)):
                _say(f"servers, installation and services are up ({_since(began)})\n")
                _play(it, time.monotonic() - began)
                if stay:
                    _how_to_go_on(it)
                    signal.pause()
    except KeyboardInterrupt:
        _say("\nstopping what was started")
    except (story.NotTrue, CommandFailed, servers.NotStarted, servers.RootNeeded) as failed:
        print(f"mailroom: {failed}", file=sys.stderr)
        _last_words(folder)
        return 1
    finally:
        servers.remove(folder)
    return 0


def _play(it: Operated, before: float) -> None:
    """`before`: seconds from the command's start to here."""
    telling = story.Story(it, _print)
    story.play(telling)
    assert telling.first is not None  # noqa: S101 -- the story has been played
    _say("\n$ mailroom ticket show 1\n" + operating.command(it, "ticket", "show", "1"))
    message_id = str(telling.first["Message-ID"])
    _say(f"$ mailroom trace '{message_id}'\n" + operating.command(it, "trace", message_id))
    _say("summary, in seconds since the command")
    for told in telling.told:
        _say(f"  true  {before + told.after:5.1f} s  {told.line}")


def _print(told: story.Told) -> None:
    _say(f"{told.after:5.1f} s  {told.line}\n         {told.evidence}")


def _how_to_go_on(it: Operated) -> None:
    environment = it.servers.folder / "environment"
    lines = [f"export {name}='{value}'" for name, value in it.environment.items()]
    environment.touch(mode=0o600)
    environment.write_text(
        "\n".join([*lines, f"export PATH='{Path(sys.executable).parent}':$PATH"])
    )
    imap, smtp = it.servers.dovecot.imaps, it.servers.postfix.submissions
    _say(
        f"""
Look from Thunderbird: import the authority {it.servers.ca_file}, then add the account
    {story.SERVICE.address}, password {story.SERVICE.password}
    IMAP localhost {imap} SSL/TLS, SMTP localhost {smtp} SSL/TLS, normal password
    (the customer is {story.ANNA.address}, password {story.ANNA.password})
Use the commands from another terminal:
    . {environment}
{OWN_ACCOUNT}
Logs: {it.log}    Metrics: http://{it.environment["MAILROOM_HTTP"]}/metrics
Ctrl-C stops everything that was started here, and nothing else."""
    )


def _last_words(folder: Path) -> None:
    log = folder / "mailroom" / "log"
    if log.exists():
        print("".join(log.read_text().splitlines(keepends=True)[-15:]), file=sys.stderr)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _say(text: str) -> None:
    print(text, flush=True)
