"""JSON Schema and AsyncAPI 3.0 of the contracts, made from the models.

Invariant: the files under docs/contracts are what this makes, and only ever grow: what a reader
relies on is neither removed nor narrowed (see `mailroom.contracts.compatibility`).

Not FastStream's document: it describes queues, holds the connection's host, and has no payload for
subscribers that iterate.
"""

from collections.abc import Sequence
from typing import Any

from mailroom.contracts import CONTRACTS, Contract
from mailroom.service import Service

Document = dict[str, Any]


def schema(contract: type[Contract]) -> Document:
    """JSON Schema 2020-12 of one contract's body."""
    body = contract.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": contract.name, **body}


def _channel(contract: type[Contract]) -> Document:
    suffixes = [suffix for suffix in contract.key_suffixes if suffix]
    channel: Document = {
        "address": contract.name + ("{suffix}" if suffixes else ""),
        "description": "exchange `mailroom` (topic), by this routing key",
        "messages": {contract.name: {"$ref": f"#/components/messages/{contract.name}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": "mailroom", "type": "topic", "durable": True},
            }
        },
    }
    if suffixes:
        channel["parameters"] = {"suffix": {"enum": suffixes, "description": "which kind"}}
    return channel


def _message(contract: type[Contract]) -> Document:
    return {
        "name": contract.name,
        "title": f"{contract.name} ({'command' if contract.is_command else 'fact'})",
        "summary": (contract.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/correlation_id"},
        "headers": {
            "type": "object",
            "description": "AMQP properties",
            "required": ["message_id", "type", "user_id"],
            "properties": {
                "message_id": {"type": "string", "description": "event id, unique"},
                "type": {"const": contract.name},
                "user_id": {"type": "string", "description": "broker user, proven by RabbitMQ"},
                "correlation_id": {"type": "string"},
                "delivery_mode": {"const": 2},
            },
        },
        "payload": {"$ref": f"./{contract.name}.json"},
    }


def _operations(service: Service[Any]) -> Document:
    sends = {
        f"{service.name}.publishes.{contract.name}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{contract.name}"},
        }
        for contract in service.publishes
    }
    receives = {
        f"{service.name}.consumes.{subscription.contract.name}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{subscription.contract.name}"},
        }
        for subscription in service.subscriptions
    }
    return {**sends, **receives}


def asyncapi(services: Sequence[Service[Any]], version: str) -> Document:
    """AsyncAPI 3.0: a channel a contract, and who publishes and consumes it."""
    contracts = CONTRACTS.values()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Mailroom",
            "version": version,
            "description": "Fields are only added, and optional; ignore what you do not know.",
        },
        "defaultContentType": "application/json",
        "channels": {contract.name: _channel(contract) for contract in contracts},
        "operations": {
            name: operation
            for service in services
            for name, operation in _operations(service).items()
        },
        "components": {"messages": {contract.name: _message(contract) for contract in contracts}},
    }


def documents(services: Sequence[Service[Any]], version: str) -> dict[str, Document]:
    """Every generated file by its name."""
    schemas = {f"{name}.json": schema(contract) for name, contract in CONTRACTS.items()}
    return {**schemas, "asyncapi.json": asyncapi(services, version)}
