"""Which messages get in: what the broker handed over becomes an event, or a misfit with its reason.

Invariant: nothing of a message is believed but what RabbitMQ proves: the user who published it, and
the exchange and key that it came by. A topic permission does not keep a `CC` or `BCC` header from
reaching queues of other keys, so key and user are checked here against the contract. Only the
service's own retry may say who published an event at first.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mailroom.contracts import ANYONE, Contract, FieldError
from mailroom.messaging.envelope import Received
from mailroom.messaging.topology import retry_exchange, routing_keys

LARGEST_BODY = 4 * 1024 * 1024
"""Bytes. A `mail.send` with all that it may have inline stays below, escaped as JSON."""

_DEEPEST = 8
_SHORT = 200


@dataclass(frozen=True)
class Delivery:
    """A message as it came, made storable (PostgreSQL takes no NUL), and nothing believed yet."""

    queue: str
    exchange: str
    routing_key: str
    user: str
    """The user that RabbitMQ proved; empty if the publisher did not say who it is."""
    event_id: str
    type: str
    correlation_id: str
    published_at: datetime
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is known by: its event id, or the hash of its bytes if it has none."""
        return self.event_id or f"sha256:{hashlib.sha256(self.body).hexdigest()}"


class Misfit(Exception):
    """A message that is no event of this queue. `errors` if its body does not fit its contract."""

    def __init__(self, reason: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.errors = tuple(errors)


def delivery(queue: str, message: AbstractIncomingMessage, moment: datetime) -> Delivery:
    """What `message` says; `moment` stands in for a time that it does not say."""
    return Delivery(
        queue=queue,
        exchange=_short(message.exchange),
        routing_key=_short(message.routing_key),
        user=_short(message.user_id),
        event_id=_short(message.message_id),
        type=_short(message.type),
        correlation_id=_short(message.correlation_id),
        published_at=message.timestamp or moment,
        body=message.body,
        headers=_plain(message.headers),
    )


def retry_headers(publisher: Any, routing_key: Any, tries: int) -> dict[str, Any]:
    """What a retry must carry, since RabbitMQ lets a service publish under its own name alone."""
    return {"publisher": publisher, "routing_key": routing_key, "tries": tries}


@dataclass(frozen=True)
class Origin:
    """Who published an event at first, by which key, and how often it was tried."""

    publisher: str
    routing_key: str
    tries: int = 0


def origin(given: Delivery, service: str) -> Origin:
    """Of an event, also behind a retry of `service`. Raises Misfit for a forged retry."""
    if given.exchange != retry_exchange(service):
        return Origin(given.user, given.routing_key)
    if given.user != service:
        raise Misfit(f"published to {given.exchange!r} by {given.user!r}: only {service!r} may")
    match given.headers:
        case {"publisher": str(publisher), "routing_key": str(key), "tries": int(tries)}:
            return Origin(publisher, key, tries)
    raise Misfit("a retry without publisher, routing_key and tries in its headers")


def presumed_origin(given: Delivery, service: str) -> Origin:
    """As `origin`, and at face value what is forged."""
    try:
        return origin(given, service)
    except Misfit:
        return Origin(given.user, given.routing_key)


def admit(given: Delivery, contract: type[Contract], service: str) -> Received[Contract]:
    """The event in `given`, for a queue of `service`. Raises Misfit."""
    by = origin(given, service)
    if not given.event_id:
        raise Misfit("no event id: set the property message_id, a new one for each event")
    if given.type != contract.name:
        raise Misfit(f"type {given.type!r} on a queue of {contract.name!r}")
    if by.routing_key not in routing_keys(contract):
        raise Misfit(f"routing key {by.routing_key!r} is none of {contract.name!r}")
    if not by.publisher:
        raise Misfit("no proven publisher: set the property user_id to the broker user")
    if ANYONE not in contract.publishers and by.publisher not in contract.publishers:
        raise Misfit(f"{by.publisher!r} may not publish {contract.name!r}")
    event = _read(given.body, contract)
    if event.routing_key() != by.routing_key:
        raise Misfit(
            f"routing key {by.routing_key!r}, but its body belongs to {event.routing_key()!r}"
        )
    return Received(
        event_id=given.event_id,
        event=event,
        publisher=by.publisher,
        correlation_id=given.correlation_id or given.event_id,
        published_at=given.published_at,
        tries=by.tries,
    )


def _read(body: bytes, contract: type[Contract]) -> Contract:
    if len(body) > LARGEST_BODY:
        remedy = f"at most {LARGEST_BODY} bytes; upload attachments instead"
        error = FieldError(field="body", value=f"{len(body)} bytes", remedy=remedy)
        raise Misfit(f"body of {len(body)} bytes: {remedy}", [error])
    try:
        return contract.model_validate_json(body)
    except ValidationError as invalid:
        errors = [_field_error(error) for error in invalid.errors(include_url=False)]
        # Without the values: the reason is logged, and they may be a mail's.
        told = "; ".join(f"{error.field}: {error.remedy}" for error in errors[:5])
        raise Misfit(f"body is no {contract.name}: {told}", errors) from None


def _field_error(error: ErrorDetails) -> FieldError:
    return FieldError(
        field=".".join(str(part) for part in error["loc"]) or "body",
        value=_clean(repr(error["input"]))[:_SHORT],
        remedy=_clean(error["msg"])[:_SHORT],
    )


def _clean(text: str | None) -> str:
    return (text or "").replace("\x00", "\ufffd")


def _short(text: str | None) -> str:
    """Such that AMQP can carry it again: a short string has 255 bytes at most."""
    return _clean(text).encode()[:255].decode(errors="ignore")


def _plain(value: Any, depth: int = 0) -> Any:
    """An AMQP field value as JSON has it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {_clean(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list) and depth < _DEEPEST:
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping | list):
        return "…"
    return _clean(value.isoformat() if isinstance(value, date) else str(value))
