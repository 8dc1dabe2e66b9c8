"""A contract only grows: what would break a reader is named."""

from copy import deepcopy
from typing import Any

import pytest

from mailroom.contracts import CONTRACTS, MailRouted, MailSend
from mailroom.contracts.compatibility import narrowed
from mailroom.contracts.documents import schema

SENT = schema(CONTRACTS["mail.sent"])
SEND = schema(MailSend)


def changed(document: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    """A copy with one value set, or removed by None."""
    copy = deepcopy(document)
    target = copy
    for step in path[:-1]:
        target = target[step]
    if to is None:
        del target[path[-1]]
    else:
        target[path[-1]] = to
    return copy


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_a_contract_is_compatible_with_itself(contract: Any) -> None:
    assert narrowed(schema(contract), schema(contract)) == []


def test_an_added_optional_field_passes() -> None:
    grown = changed(SENT, "properties", "queue_time", to={"type": "integer"})
    assert narrowed(SENT, grown) == []


def test_a_removed_field_is_named() -> None:
    assert narrowed(SENT, changed(SENT, "properties", "subject", to=None)) == ["subject: removed"]


def test_a_newly_required_field_is_named() -> None:
    grown = changed(SENT, "required", to=[*SENT["required"], "tag"])
    assert narrowed(SENT, grown) == ["tag: newly required"]


def test_another_type_is_named() -> None:
    other = changed(SENT, "properties", "subject", to={"type": "integer"})
    assert narrowed(SENT, other) == ["subject: type was string, is integer"]


def test_a_tighter_bound_is_named_and_a_wider_one_passes() -> None:
    tight = changed(SEND, "properties", "subject", "maxLength", to=100)
    wide = changed(SEND, "properties", "subject", "maxLength", to=5000)
    assert narrowed(SEND, tight) == ["subject: maxLength was 2000, is 100"]
    assert narrowed(SEND, wide) == []


def test_a_removed_choice_is_named_and_a_new_one_passes() -> None:
    fewer = changed(SEND, "properties", "auto", "enum", to=["none", "replied"])
    more = changed(SEND, "properties", "auto", "enum", to=["none", "replied", "generated", "bulk"])
    assert narrowed(SEND, fewer) == ["auto: choice 'generated' is gone"]
    assert narrowed(SEND, more) == []


def test_a_value_that_may_no_longer_be_null_is_named() -> None:
    strict = changed(SEND, "properties", "text", to={"type": "string", "maxLength": 262144})
    assert narrowed(SEND, strict) == ["text: type was one of several, is string"]


def test_a_narrowed_value_inside_another_is_named_by_its_path() -> None:
    strict = changed(SEND, "$defs", "Address", "required", to=["address", "name"])
    assert "to[].name: newly required" in narrowed(SEND, strict)


def test_routed_mail_says_from_as_the_contract_does_and_not_as_python_does() -> None:
    assert "from" in schema(MailRouted)["properties"]
    assert "from_" not in schema(MailRouted)["properties"]
