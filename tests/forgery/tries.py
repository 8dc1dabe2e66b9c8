"""What a forger tries: every event and command that is not his, by every way to a queue.

Invariant: the contracts come from their registry and the queues from the services, so that a new
one is tried too.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.exceptions import ChannelClosed

from mailroom.contracts import ANYONE, CONTRACTS, Contract
from mailroom.messaging.admission import retry_headers
from mailroom.messaging.topology import EXCHANGE, retry_exchange, routing_keys
from tests.forgery.house import FIRST, House, Parked

BLIND = "as a copy that nobody sees"


@dataclass(frozen=True)
class Try:
    """One message, and where it would have to be parked if the broker lets it pass."""

    way: str
    contract: str
    exchange: str
    key: str
    message: aio_pika.Message
    parked: frozenset[Parked] = frozenset()


def forbidden(house: House, user: str) -> list[tuple[type[Contract], str]]:
    """Each contract that the user may not publish, by each of its keys."""
    own = own_keys(house, user)
    return [
        (contract, key)
        for contract in CONTRACTS.values()
        for key in routing_keys(contract)
        if key not in own
    ]


def own_keys(house: House, user: str) -> list[str]:
    """The keys that the user may publish under."""
    service = house.services.get(user)
    contracts = (
        service.publishes
        if service
        else [each for each in CONTRACTS.values() if ANYONE in each.publishers]
    )
    return [key for contract in contracts for key in routing_keys(contract)]


def straight(house: House, user: str, exchanges: list[str]) -> Iterator[Try]:
    """By key, by a queue's name, by every exchange: the broker refuses each."""
    for contract, key in forbidden(house, user):
        body = house.an_example(contract, key)
        yield Try(f"{key} by its key", contract.name, EXCHANGE, key, _message(user, contract, body))
        for exchange in exchanges:
            for aim in (key, *house.queues(key)):
                way = f"{key} to {aim} by {exchange or 'the default exchange'}"
                yield Try(way, contract.name, exchange, aim, _message(user, contract, body))


def as_another(house: House, user: str) -> Iterator[Try]:
    """Under the name of one who may, by a key of his own: the broker refuses each."""
    (own, *_) = own_keys(house, user)
    for contract, key in forbidden(house, user):
        somebody = "sender" if user == "ticketing" else "ticketing"
        for rightful in set(contract.publishers) - {ANYONE} or {somebody}:
            message = _message(user, contract, house.an_example(contract, key), user_id=rightful)
            message.headers["CC"] = [key]
            yield Try(f"{key} as {rightful}", contract.name, EXCHANGE, own, message)


def by_copy(house: House, user: str) -> Iterator[Try]:
    """By a key of his own, with a copy for another: the broker lets it pass."""
    (own, *_) = own_keys(house, user)
    for contract, key in forbidden(house, user):
        body = house.an_example(contract, key)
        for disguise, properties in _disguises(house, user, contract, key).items():
            # They differ in whether the consumer sees it.
            header = "BCC" if disguise == BLIND else "CC"
            way = f"{key} as {header} of {own}, {disguise}"
            message = _message(user, contract, body, **({"message_id": way} | properties))
            message.headers[header] = [key]
            reached = _reached(house, message, own, key)
            yield Try(way, contract.name, EXCHANGE, own, message, reached)


def _disguises(
    house: House, user: str, contract: type[Contract], key: str
) -> Mapping[str, dict[str, Any]]:
    (rightful, *_) = {*contract.publishers} - {ANYONE} or {"ticketing"}
    retry = retry_headers(rightful, key, 1)
    queue, *_ = (*house.queues(key), "router.mail.received")
    service = queue.partition(".")[0]
    death: dict[str, Any] = {
        "queue": queue,
        "exchange": retry_exchange(service),
        "routing-keys": [queue],
        "count": 1,
    }
    disguises: dict[str, dict[str, Any]] = {
        "as it is": {},
        BLIND: {},
        "without a type": {"type": None},
        "named by nobody": {"user_id": None, "app_id": rightful, "headers": {"user_id": rightful}},
        "as a retry": {"headers": {**retry, "exchange": retry_exchange(service)}},
        "with the id of a handled event": {"message_id": FIRST, "correlation_id": FIRST},
        "as a dead letter": {"headers": {**retry, "x-death": [{**death, "reason": "rejected"}]}},
    }
    if service != user:  # whose retries are its own to publish
        disguises["as a dead retry that expires"] = {
            "expiration": 0,
            # RabbitMQ counts an equal death up, and keeps what else was said of it.
            "headers": {**retry, "x-death": [{**death, "reason": "expired"}]},
        }
    return disguises


def _reached(house: House, message: aio_pika.Message, *keys: str) -> frozenset[Parked]:
    return frozenset(
        Parked(queue, message.user_id or "", message.message_id or "")
        for key in keys
        for queue in house.queues(key)
    )


def _message(
    user: str, contract: type[Contract], body: bytes, **properties: Any
) -> aio_pika.Message:
    usual: dict[str, Any] = {"user_id": user, "type": contract.name, "app_id": user, "headers": {}}
    return aio_pika.Message(body, **(usual | properties))


async def publish_all(house: House, user: str, tries: Iterable[Try]) -> dict[str, str]:
    """What the broker says against each, by its way; empty if it took it."""
    said = {}
    async with await aio_pika.connect(house.broker.url(user)) as connection:
        channel = await connection.channel()
        for each in tries:
            if channel.is_closed:
                channel = await connection.channel()
            exchange = await channel.get_exchange(each.exchange, ensure=False)
            try:
                await exchange.publish(each.message, each.key, mandatory=False)
                said[each.way] = ""
            except ChannelClosed as closed:
                said[each.way] = str(closed)
    return said
