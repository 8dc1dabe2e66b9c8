"""An event of every contract that is, and of any that will be: made from the contracts' schemas.

Invariant: what is made fits its contract and is published under the key that was asked for, so that
who refuses it does so for its publisher alone.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mailroom.contracts import Contract

Known = Mapping[str, Any]
"""Values by the names of fields: ids of what is there, so that an event would do harm."""


def example(contract: type[Contract], key: str, known: Known) -> Contract:
    """An event of the contract that belongs to this routing key."""
    schema = contract.model_json_schema()
    body = _object(schema, schema.get("$defs", {}), known)
    for variant in (body, *_variants(schema, body)):
        event = contract.model_validate(variant)
        if event.routing_key() == key:
            return event
    raise AssertionError(f"no example of {contract.name} belongs to {key}: make one here")


def _variants(schema: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, field in schema["properties"].items():
        for choice in field.get("enum", ()):
            yield {**body, name: choice}


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any], known: Known) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: known[name] if name in known else _value(field, defs, known, name)
        for name, field in schema["properties"].items()
        if name in known or name in required
    }


def _value(field: Mapping[str, Any], defs: Mapping[str, Any], known: Known, name: str) -> Any:
    match field:
        case {"$ref": str(reference)}:
            return _value(defs[reference.rpartition("/")[2]], defs, known, name)
        case {"anyOf": [first, *_]}:
            return _value(first, defs, known, name)
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"type": "object"}:
            return _object(field, defs, known)
    simple = {
        "uuid": str(uuid4()),
        "date-time": datetime.now(UTC).isoformat(),
        "string": f"some {name}",
        "integer": field.get("minimum", 1),
        "boolean": False,
        "array": [],
    }
    return simple[field.get("format", field["type"])]
