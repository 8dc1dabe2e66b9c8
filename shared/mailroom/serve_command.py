"""`mailroom serve`."""

import click

from mailroom import serve
from mailroom.cli import Refusal, importing, run
from mailroom.service import ServiceUnknown, named


@click.command("serve")
@click.argument("names", nargs=-1, required=True, metavar="NAME…|all")
def serve_command(names: tuple[str, ...]) -> None:
    """Run services until SIGTERM or Ctrl-C. All of them in this process.

    One service a process is usual on Kubernetes; `all` suits a small firm.
    """
    try:
        with importing():
            services = named(names)
    except ServiceUnknown as unknown:
        raise Refusal(str(unknown)) from None
    run(serve.run(services))
