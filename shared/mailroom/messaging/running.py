"""What a running service needs of messaging: its broker, and the loops that `mailroom serve` runs.

Invariant: a loop ends by cancellation alone. It rides out the absence of RabbitMQ and PostgreSQL
for any time by itself, and finishes what it has in hand, or gives it back, within seconds.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.rabbit import RabbitBroker

from mailroom.service import Resources, Service
from mailroom.settings import CommonSettings, ServiceSettings

Loop = Callable[[], Awaitable[None]]
"""Started by a call, ended by cancellation."""


def broker_for(
    service: Service[Any], settings: ServiceSettings, common: CommonSettings
) -> RabbitBroker:
    """A broker that holds the service's consumer connection, with its subscribers registered.

    Start it before the loops, and stop it after they ended. Raises SettingsRefused if the broker
    URL's user is not the service.
    """
    raise NotImplementedError


def tasks(service: Service[Any], broker: RabbitBroker, resources: Resources[Any]) -> list[Loop]:
    """The service's loops: consumers, relay, drain of dead letters, pruning."""
    raise NotImplementedError
