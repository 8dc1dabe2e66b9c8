"""`python -m deploy.local servers`, `demo` or `smoke`: run the private servers until Ctrl-C."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from deploy import local
from deploy.local import demo


def servers(folder: Path) -> None:
    """Start all four, say where they are, and stay."""
    with local.running(folder) as it:
        print(f"folder      {it.folder}")
        print(f"PostgreSQL  {it.postgresql.dsn}")
        print(f"RabbitMQ    {it.rabbitmq.url}")
        print(f"IMAP        {it.dovecot.host} STARTTLS {it.dovecot.imap}, TLS {it.dovecot.imaps}")
        print(f"SMTP        {it.postfix.host} {it.postfix.smtp}, without a login, for our domains")
        print(
            f"submission  {it.postfix.host} STARTTLS {it.postfix.submission}, "
            f"TLS {it.postfix.submissions}"
        )
        print(f"CA file     {it.ca_file}")
        print("Ctrl-C ends them.", flush=True)
        signal.pause()


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local")
    parser.add_argument("command", choices=["servers", "demo", "smoke"])
    command = parser.parse_args().command
    # As Ctrl-C: what was started ends in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if command != "servers":
        return demo.demo() if command == "demo" else demo.smoke()
    folder = Path(tempfile.mkdtemp(prefix="mailroom-"))
    try:
        servers(folder)
    except KeyboardInterrupt:
        print()
    except (local.NotStarted, local.FolderRefused, local.RootNeeded) as problem:
        print(f"mailroom: {problem}", file=sys.stderr)
        return 1
    finally:
        local.remove(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
