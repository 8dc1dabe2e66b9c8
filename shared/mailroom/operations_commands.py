"""`mailroom serve`, `migrate` and `topology`: what operations people run."""

import json
from typing import TextIO
from urllib.parse import unquote

import click

from mailroom import migrations, serve, settings
from mailroom.cli import Refusal, refuse, run
from mailroom.messaging.topology import OWNER, NameTaken, definitions
from mailroom.service import ServiceUnknown, named


@click.command("serve")
@click.argument("names", nargs=-1, required=True, metavar="NAME…|all")
def serve_command(names: tuple[str, ...]) -> None:
    """Run services in this process until SIGTERM or Ctrl-C.

    One service a process is usual on Kubernetes; `all` suits a small firm.
    """
    try:
        services = named(names)
    except ServiceUnknown as unknown:
        raise Refusal(str(unknown)) from None
    run(serve.run(services))


@click.command("migrate")
def migrate_command() -> None:
    """Bring all schemas up to date, then declare the broker's exchanges and queues.

    Run it before any service of a new version starts. Running it again, or twice at once, is safe.
    """
    services = named(["all"])
    owner = settings.load(settings.OwnerSettings)
    try:
        run(migrations.migrate(owner, services, _tell_that_another_runs))
    except migrations.DatabaseNewer as newer:
        remedy = "a newer version migrated it: run that one's `mailroom migrate` and services"
        raise refuse("schema", f"{newer.schema} {newer.revision}", remedy) from None
    click.echo(f"migrated: {', '.join(service.name for service in services)}")


def _tell_that_another_runs() -> None:
    click.echo("mailroom: another `mailroom migrate` is running: waiting for it", err=True)


@click.command("topology")
@click.option(
    "--publisher",
    "publishers",
    multiple=True,
    type=(str, click.File()),
    metavar="NAME PASSWORD-FILE",
    help="broker user of another ERP system, that may publish commands",
)
def topology_command(publishers: tuple[tuple[str, TextIO], ...]) -> None:
    """Print RabbitMQ definitions for `rabbitmqctl import_definitions`.

    Users, permissions and policies of the virtual host in MAILROOM_OWNER_BROKER_URL. Passwords are
    those of the broker URLs in the environment; only their hashes are printed.
    """
    services = named(["all"])
    owner = settings.load(settings.OwnerSettings).broker_url
    urls = {service.name: settings.load(service.settings).broker_url for service in services}
    passwords = {name: unquote(url.password or "") for name, url in urls.items()}
    passwords[OWNER] = unquote(owner.password or "")
    passwords |= {name: file.read().strip() for name, file in publishers}
    vhost = unquote((owner.path or "/").removeprefix("/")) or "/"
    try:
        made = definitions(services, vhost, passwords, [name for name, _ in publishers])
    except NameTaken as taken:
        remedy = "is a service of Mailroom, or a name that it has on the broker; take another"
        raise refuse("--publisher", taken.name, remedy) from None
    click.echo(json.dumps(made, indent=2))
