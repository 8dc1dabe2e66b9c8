"""How a service's connections reach RabbitMQ, and what they are called there."""

from pydantic_core import Url
from yarl import URL

from mailroom.settings import ServiceSettings, SettingsRefused

HEARTBEAT = 15
"""Seconds. aio-pika gives a silent connection up after three: by default that is three minutes."""

CONNECT_WITHIN = 10.0
"""Seconds until RabbitMQ must have opened a connection."""


def broker_address(settings: ServiceSettings, purpose: str) -> str:
    """The broker URL with a heartbeat, and with the name that RabbitMQ shows for the connection."""
    url = URL(str(settings.broker_url))
    return str(url.update_query({"heartbeat": HEARTBEAT, **url.query, "name": purpose}))


def vhost_refused(url: Url) -> str:
    """What to tell of aiormq's InvalidFrameError: all it says when RabbitMQ opens no vhost."""
    vhost = (url.path or "/")[1:] or "/"
    return f"RabbitMQ refuses vhost {vhost!r}: import what `mailroom topology` prints"


def check_user(service: str, settings: ServiceSettings) -> None:
    """Raises SettingsRefused if the broker URL's user is not the service.

    RabbitMQ would refuse each event, and consumers would not believe it: they trust its user.
    """
    user = URL(str(settings.broker_url)).user
    if user != service:
        variable = f"{settings.model_config.get('env_prefix', '')}BROKER_URL"
        raise SettingsRefused(f"{variable} has the user {user!r}: give the broker user {service!r}")
