import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mailroom.contracts import MailSend
from mailroom.messaging.admission import (
    LARGEST_BODY,
    Delivery,
    Misfit,
    Origin,
    admit,
    origin,
    presumed_origin,
    retry_headers,
)
from tests.messaging.world import OrderPlaced

AT = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = Delivery(
    queue="desk.order.placed",
    exchange="mailroom",
    routing_key="order.placed.small",
    user="shop",
    event_id="e1",
    type="order.placed",
    correlation_id="c1",
    published_at=AT,
    body=b'{"number": 7}',
)
RETRY = replace(
    GOOD,
    exchange="desk.retry",
    routing_key="desk.order.placed",
    user="desk",
    headers=retry_headers("shop", "order.placed.small", 3),
)


def refusal(given: Delivery, contract: Any = OrderPlaced) -> str:
    with pytest.raises(Misfit) as misfit:
        admit(given, contract, "desk")
    return misfit.value.reason


def test_an_event_gets_in_with_the_publisher_that_the_broker_proved() -> None:
    received = admit(GOOD, OrderPlaced, "desk")
    assert received.event == OrderPlaced(number=7)
    assert (received.event_id, received.publisher, received.tries) == ("e1", "shop", 0)
    assert (received.correlation_id, received.published_at) == ("c1", AT)


def test_an_event_without_correlation_id_begins_its_own() -> None:
    assert admit(replace(GOOD, correlation_id=""), OrderPlaced, "desk").correlation_id == "e1"


def test_a_retry_of_our_own_keeps_the_first_publisher_and_counts_its_tries() -> None:
    received = admit(RETRY, OrderPlaced, "desk")
    assert (received.publisher, received.tries) == ("shop", 3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"event_id": ""}, "no event id"),
        ({"type": ""}, "type ''"),
        ({"type": "mail.send"}, "type 'mail.send'"),
        ({"routing_key": "mail.send"}, "routing key 'mail.send'"),
        ({"routing_key": "order.placed"}, "routing key 'order.placed'"),
        ({"routing_key": "order.placed.big"}, "its body belongs to 'order.placed.small'"),
        ({"user": ""}, "no proven publisher"),
        ({"user": "erp"}, "'erp' may not publish 'order.placed'"),
        # Headers are believed from our own retry exchange alone.
        ({"user": "erp", "headers": retry_headers("shop", "order.placed.small", 0)}, "'erp' may"),
        ({"body": b"{"}, "body is no order.placed: body: Invalid JSON"),
        ({"body": b'{"number": "seven"}'}, "number: "),
        ({"body": b"\xff\xfe"}, "body is no order.placed"),
        ({"body": b"[" * 100_000}, "body is no order.placed"),
        ({"body": b" " * (LARGEST_BODY + 1)}, f"at most {LARGEST_BODY} bytes"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(wrong: dict[str, Any], reason: str) -> None:
    assert reason in refusal(replace(GOOD, **wrong))


def test_a_retry_from_any_other_user_is_forged() -> None:
    forged = replace(RETRY, user="erp")
    assert "by 'erp': only 'desk' may" in refusal(forged)
    assert presumed_origin(forged, "desk") == Origin("erp", "desk.order.placed")


@pytest.mark.parametrize(
    "headers", [{}, {"publisher": "shop"}, retry_headers("", "", 0) | {"tries": "x"}]
)
def test_a_retry_that_does_not_say_where_it_comes_from_is_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(Misfit, match="a retry without"):
        origin(replace(RETRY, headers=headers), "desk")


def test_a_retry_is_checked_against_the_key_and_publisher_of_its_first_receipt() -> None:
    elsewhere = replace(RETRY, headers=retry_headers("shop", "mail.send", 1))
    assert "routing key 'mail.send'" in refusal(elsewhere)
    stranger = replace(RETRY, headers=retry_headers("erp", "order.placed.small", 1))
    assert "'erp' may not publish" in refusal(stranger)


def test_each_wrong_field_is_named_and_the_reason_holds_no_value_of_the_mail() -> None:
    body = json.dumps({"idempotency_key": "", "account": 7, "subject": "Geheim", "to": "Geheim"})
    given = replace(GOOD, type="mail.send", routing_key="mail.send", body=body.encode())
    with pytest.raises(Misfit) as misfit:
        admit(given, MailSend, "desk")
    assert {error.field for error in misfit.value.errors} == {"idempotency_key", "account", "to"}
    assert all(error.remedy for error in misfit.value.errors)
    assert "Geheim" not in misfit.value.reason


def test_a_message_without_event_id_is_known_by_the_hash_of_its_bytes() -> None:
    nameless = replace(GOOD, event_id="")
    assert nameless.key == f"sha256:{hashlib.sha256(GOOD.body).hexdigest()}"
    assert GOOD.key == "e1"
