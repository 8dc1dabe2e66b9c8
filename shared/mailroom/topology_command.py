"""`mailroom topology`."""

import json
from typing import TextIO
from urllib.parse import unquote

import click

from mailroom import settings
from mailroom.cli import refuse
from mailroom.messaging.topology import OWNER, NameTaken, definitions
from mailroom.service import named


@click.command("topology")
@click.option(
    "--publisher",
    "publishers",
    multiple=True,
    type=(str, click.File()),
    metavar="NAME PASSWORD-FILE",
    help="broker user of another ERP system, that may publish commands; repeatable",
)
def topology_command(publishers: tuple[tuple[str, TextIO], ...]) -> None:
    """Print definitions for RabbitMQ. Give them to `rabbitmqctl import_definitions`.

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
        remedy = "begins as a service of Mailroom, or as a name of its on the broker; take another"
        raise refuse("--publisher", taken.name, remedy) from None
    click.echo(json.dumps(made, indent=2))
