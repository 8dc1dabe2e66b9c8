"""`mailroom migrate`."""

import click
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import InvalidFrameError

from mailroom import migrations, settings
from mailroom.cli import Refusal, refuse, run
from mailroom.messaging.addresses import vhost_refused
from mailroom.service import named


@click.command("migrate")
def migrate_command() -> None:
    """Prepare database and broker. Brings schemas up to date, then declares exchanges and queues.

    Run it before any service of a new version starts. Running it again, or twice at once, is safe.
    """
    services = named(["all"])
    owner = settings.load(settings.OwnerSettings)
    try:
        run(migrations.migrate(owner, services, _tell_that_another_runs))
    except migrations.DatabaseNewer as newer:
        remedy = "a newer version migrated it: run that one's `mailroom migrate` and services"
        raise refuse("schema", f"{newer.schema} {newer.revision}", remedy) from None
    except InvalidFrameError:
        raise Refusal(vhost_refused(owner.broker_url)) from None
    except AMQPError as refused:
        # Mostly a queue or an exchange that is there, and another than we would make.
        raise Refusal(f"RabbitMQ: {refused}: remove what was made otherwise") from None
    click.echo(f"migrated: {', '.join(service.name for service in services)}")


def _tell_that_another_runs() -> None:
    click.echo("mailroom: another `mailroom migrate` is running: waiting for it", err=True)
