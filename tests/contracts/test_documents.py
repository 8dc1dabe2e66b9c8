"""The documents of the contracts are valid by their standards, and those checked in are true."""

import json
from pathlib import Path
from typing import Any

import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from jsonschema import Draft202012Validator

from mailroom.contracts import CONTRACTS, MailSend
from mailroom.contracts.documents import asyncapi, documents, schema
from mailroom.service import named

SERVICES = named(["all"])
CHECKED_IN = Path(__file__).parents[2] / "docs" / "contracts"


def test_the_asyncapi_document_is_one() -> None:
    read = ApplicationSchema.model_validate(asyncapi(SERVICES, "1.0"))
    assert read.channels is not None
    assert read.channels.keys() == CONTRACTS.keys()


def test_every_reference_leads_somewhere() -> None:
    made = documents(SERVICES, "1.0")

    def followed(value: Any) -> None:
        if isinstance(value, list):
            for one in value:
                followed(one)
        if not isinstance(value, dict):
            return
        if reference := value.get("$ref"):
            file, _, path = reference.partition("#")
            target: Any = made[file.removeprefix("./") or "asyncapi.json"]
            for step in path.strip("/").split("/") if path else ():
                target = target[step]
        for one in value.values():
            followed(one)

    followed(made["asyncapi.json"])


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_every_schema_is_one(contract: Any) -> None:
    Draft202012Validator.check_schema(schema(contract))


def test_a_request_that_the_schema_takes_is_taken_by_the_model() -> None:
    request = {
        "idempotency_key": "order-17",
        "account": "shop",
        "to": [{"address": "anna@customer.test"}],
        "subject": "Your order",
        "text": "It is on its way.",
        "attachments": [{"filename": "a.txt", "type": "text/plain", "inline": "Zg=="}],
    }
    Draft202012Validator(schema(MailSend)).validate(request)
    assert MailSend.model_validate_json(json.dumps(request)).account == "shop"


def test_every_command_and_fact_is_published_or_consumed_by_a_service() -> None:
    operations = asyncapi(SERVICES, "1.0")["operations"].values()
    told = {operation["channel"]["$ref"].removeprefix("#/channels/") for operation in operations}
    assert told == CONTRACTS.keys()


def test_what_is_checked_in_is_what_the_models_say() -> None:
    for name, document in documents(SERVICES, "0.1.0").items():
        assert json.loads((CHECKED_IN / name).read_text()) == document, f"{name}: make contracts"
