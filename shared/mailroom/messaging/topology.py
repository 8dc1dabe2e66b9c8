"""Exchanges, queues, bindings, users and limits: what the broker must have, made from the services.

Invariant: what services subscribe to and publish is the only source. A service may configure
nothing, write only the keys of what it publishes, and read only its own queues. Every limit is a
policy, since the arguments of a living queue cannot change.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aio_pika.abc import AbstractConnection, ExchangeType

from mailroom.contracts import ANYONE, CONTRACTS, Contract
from mailroom.directory import OWN_SERVICES
from mailroom.service import Service, Subscription

EXCHANGE = "mailroom"
"""The topic exchange of all events; routing key = name, with its suffix."""

DEAD_EXCHANGE = "mailroom.dead"
OWNER = "mailroom"
"""The broker user of `mailroom migrate`: the only one with configure rights."""

DELIVERY_LIMIT = 20
"""Deliveries without an answer before an event is taken for one that kills its consumer. Each kill
-9, and each graceful stop too, counts against everything prefetched, so a low limit would condemn
innocents."""

_RESERVED = frozenset({"dead", "buried", OWNER})
_NOTHING = "^$"
# RabbitMQ 3.10 knows no "unlimited", and 4.x limits quorum queues to 20 by default and then drops.
_NO_LIMIT = 1_000_000_000
_QUORUM = {"x-queue-type": "quorum"}


class NameTaken(Exception):
    """A service or publisher would have a name that means something else on the broker."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"name {name!r}: has another meaning on the broker, take another")


def is_ours(publisher: str, services: Collection[str] = ()) -> bool:
    """Whether a foreign publisher of this name would be taken for a service, or read its queues.

    It may read what begins with its name and a dot: `desk.order` what was meant for desk.
    """
    return publisher.partition(".")[0] in {*_RESERVED, *OWN_SERVICES, *services}


def queue_name(service: str, contract: type[Contract]) -> str:
    """The queue of a subscription: `router.mail.received`."""
    return f"{service}.{contract.name}"


def retry_exchange(service: str) -> str:
    """Where a service publishes an event again, to one of its queues alone: key = queue's name."""
    return f"{service}.retry"


def dead_queue(service: str) -> str:
    """Where the broker puts what exceeded the delivery limit.

    Not `<service>.dead`: the policy pattern `^<service>\\.` would catch it, and dead letters of
    dead letters go round in a circle.
    """
    return f"dead.{service}"


BURIED = "mailroom.buried"
"""Where dead letters go that the drain cannot read either; only a person looks there."""


def routing_keys(contract: type[Contract]) -> tuple[str, ...]:
    """Every key that events of this contract are published under."""
    return tuple(contract.name + suffix for suffix in contract.key_suffixes)


def binding_keys(subscription: Subscription) -> tuple[str, ...]:
    """The keys that a subscription's queue is bound to."""
    return subscription.keys or routing_keys(subscription.contract)


async def declare(connection: AbstractConnection, services: Sequence[Service[Any]]) -> None:
    """Declare exchanges, queues and bindings, as the owner. Declaring again changes nothing.

    Run it before any publisher starts: RabbitMQ confirms what it could not route. Raises aio-pika's
    ChannelPreconditionFailed if a queue of this name exists with another type.
    """
    async with connection.channel() as channel:
        events = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
        dead = await channel.declare_exchange(DEAD_EXCHANGE, ExchangeType.DIRECT, durable=True)
        buried = await channel.declare_queue(BURIED, durable=True, arguments=dict(_QUORUM))
        await buried.bind(dead, BURIED)
        for service in services:
            retry = await channel.declare_exchange(
                retry_exchange(service.name), ExchangeType.DIRECT, durable=True
            )
            dead_letters = await channel.declare_queue(
                dead_queue(service.name), durable=True, arguments=dict(_QUORUM)
            )
            await dead_letters.bind(dead, dead_queue(service.name))
            for subscription in service.subscriptions:
                name = queue_name(service.name, subscription.contract)
                queue = await channel.declare_queue(name, durable=True, arguments=dict(_QUORUM))
                await queue.bind(retry, name)
                for key in binding_keys(subscription):
                    await queue.bind(events, key)


def definitions(
    services: Sequence[Service[Any]],
    vhost: str,
    passwords: Mapping[str, str],
    publishers: Sequence[str] = (),
) -> dict[str, Any]:
    """RabbitMQ definitions: vhost, users, permissions, policies (rabbitmqctl import_definitions).

    `publishers` are foreign users, who may publish what anyone may. `passwords` are by user: the
    services' names, the owner `mailroom`, the publishers; only hashes are in the result. Users
    without one are left out, and must exist: importing a user without a password clears the one
    that it has. Raises NameTaken for a name that cannot be a service's or publisher's.
    """
    names = [service.name for service in services]
    if taken := _RESERVED & {*names} | {each for each in publishers if is_ours(each, names)}:
        raise NameTaken(min(taken))
    foreign = sorted(set(publishers))
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            _user(name, passwords[name]) for name in (OWNER, *names, *foreign) if name in passwords
        ],
        "permissions": [
            _permission(vhost, OWNER, ".*", ".*", ".*"),
            *(_service_permission(vhost, service) for service in services),
            *(_publisher_permission(vhost, name) for name in foreign),
        ],
        "topic_permissions": [
            *(_may_write(vhost, service.name, service.publishes) for service in services),
            *(_may_write(vhost, name, _what_anyone_may()) for name in foreign),
        ],
        "policies": [
            *(_limits(vhost, name, rf"^{re.escape(name)}\.", dead_queue(name)) for name in names),
            _limits(vhost, "dead", r"^dead\.", BURIED),
            _policy(vhost, "buried", f"^{re.escape(BURIED)}$", {"delivery-limit": _NO_LIMIT}),
        ],
    }


def _user(name: str, password: str) -> dict[str, Any]:
    """RabbitMQ's salted SHA-256; the salt comes of the name, so that printing twice is the same."""
    salt = hashlib.sha256(name.encode()).digest()[:4]
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }


def _permission(vhost: str, user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}


def _service_permission(vhost: str, service: Service[Any]) -> dict[str, str]:
    """Its queues are named one by one: who may also read its retry exchange can bind the exchange
    of all events to that, and publish there past every topic permission."""
    write = f"^({EXCHANGE}|{re.escape(retry_exchange(service.name))})$"
    own = (queue_name(service.name, each.contract) for each in service.subscriptions)
    queues = "|".join(re.escape(name) for name in (*own, dead_queue(service.name)))
    return _permission(vhost, service.name, _NOTHING, write, f"^({queues})$")


def _publisher_permission(vhost: str, name: str) -> dict[str, str]:
    """It may also read queues that an operator made for it, `<publisher>.…`: to hear what became of
    its mails, and still when these definitions are imported again."""
    return _permission(vhost, name, _NOTHING, f"^{EXCHANGE}$", rf"^{re.escape(name)}\.")


def _may_write(vhost: str, user: str, contracts: Iterable[type[Contract]]) -> dict[str, str]:
    """RabbitMQ asks this for the first routing key only: a CC header passes by it, and so every
    consumer checks key and user again."""
    keys = [re.escape(key) for contract in contracts for key in routing_keys(contract)]
    return {
        "user": user,
        "vhost": vhost,
        "exchange": EXCHANGE,
        "write": f"^({'|'.join(keys)})$" if keys else _NOTHING,
        "read": _NOTHING,
    }


def _what_anyone_may() -> list[type[Contract]]:
    return [contract for contract in CONTRACTS.values() if ANYONE in contract.publishers]


def _limits(vhost: str, name: str, pattern: str, dead_letters: str) -> dict[str, Any]:
    """A delivery limit without a dead-letter exchange would drop; at-least-once needs the overflow
    `reject-publish`, which without a length limit rejects nothing."""
    definition = {
        "delivery-limit": DELIVERY_LIMIT,
        "dead-letter-exchange": DEAD_EXCHANGE,
        "dead-letter-routing-key": dead_letters,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    }
    return _policy(vhost, name, pattern, definition)


def _policy(vhost: str, name: str, pattern: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "vhost": vhost,
        "name": name,
        "pattern": pattern,
        "apply-to": "queues",
        "priority": 0,
        "definition": definition,
    }
