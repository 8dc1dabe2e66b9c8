"""Would a reader of the old contract be broken by the new one? A comparison of two JSON Schemas.

Invariant: only growth passes. A removed field, a field newly required, another type, a tighter
bound, a removed choice are each named; an added optional field, a wider bound, another choice pass.
(`@asyncapi/diff` calls a removed, retyped or newly required field "unclassified".)
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

# Keywords by the direction in which they narrow (JSON Schema 2020-12, section 6).
LOWER_NARROWS = ("maximum", "maxLength", "maxItems", "exclusiveMaximum")
HIGHER_NARROWS = ("minimum", "minLength", "minItems", "exclusiveMinimum")
ANY_CHANGE_NARROWS = ("pattern", "format", "const")


def narrowed(old: Schema, new: Schema) -> list[str]:
    """What the new schema takes away from the old, a line each with the field's path."""
    return list(_compare(_Pair(old, new), old, new, ""))


class _Pair:
    """Both documents, to follow each one's own references."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self.old_root, self.new_root = old, new
        self.seen: set[tuple[str, str]] = set()


def _followed(root: Schema, schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Any = root
    for step in str(reference).removeprefix("#/").split("/"):
        target = target[step]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _compare(pair: _Pair, old: Schema, new: Schema, path: str) -> Iterator[str]:
    references = (str(old.get("$ref", "")), str(new.get("$ref", "")))
    if all(references):
        if references in pair.seen:
            return
        pair.seen.add(references)
    old, new = _followed(pair.old_root, old), _followed(pair.new_root, new)
    where = path or "body"
    if old.get("type") != new.get("type") and "type" in new:
        was = old.get("type", "one of several" if "anyOf" in old else "any")
        yield f"{where}: type was {was}, is {new['type']}"
        return
    yield from _bounds(old, new, where)
    yield from _choices(pair, old, new, where)
    yield from _properties(pair, old, new, path)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            yield from _compare(pair, old[inner], new[inner], f"{path}[]")


def _bounds(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for keyword in LOWER_NARROWS:
        if keyword in new and new[keyword] < old.get(keyword, float("inf")):
            yield f"{where}: {keyword} was {old.get(keyword, 'none')}, is {new[keyword]}"
    for keyword in HIGHER_NARROWS:
        if keyword in new and new[keyword] > old.get(keyword, float("-inf")):
            yield f"{where}: {keyword} was {old.get(keyword, 'none')}, is {new[keyword]}"
    for keyword in ANY_CHANGE_NARROWS:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{where}: {keyword} was {old.get(keyword, 'none')}, is {new[keyword]}"


def _choices(pair: _Pair, old: Schema, new: Schema, where: str) -> Iterator[str]:
    if "enum" in new:
        for choice in old.get("enum", ["anything"]):
            if choice not in new["enum"]:
                yield f"{where}: choice {choice!r} is gone"
    if "anyOf" in old and "anyOf" in new:
        for option in old["anyOf"]:
            faults = [list(_compare(pair, option, candidate, where)) for candidate in new["anyOf"]]
            if all(faults):
                yield min(faults, key=len)[0]


def _properties(pair: _Pair, old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    dotted = f"{path}." if path else ""
    for field, schema in before.items():
        if field not in after:
            yield f"{dotted}{field}: removed"
            continue
        yield from _compare(pair, schema, after[field], f"{dotted}{field}")
    for field in new.get("required", []):
        if field not in old.get("required", []):
            yield f"{dotted}{field}: newly required"
