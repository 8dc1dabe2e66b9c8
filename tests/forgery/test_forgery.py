"""Whatever a forger publishes is refused by the broker, or parked with its reason; none of it takes
effect. Every event and command of the contracts is tried, by everybody who may not publish it."""

import asyncio
import json
import re

import pytest

from deploy import local
from mailroom.contracts import CONTRACTS
from mailroom.messaging.topology import routing_keys
from tests.forgery.house import House, Parked
from tests.forgery.tries import (
    as_another,
    by_copy,
    forbidden,
    publish_all,
    straight,
)
from tests.installation import PUBLISHERS, service_names
from tests.waiting import until

matrix = pytest.mark.matrix
(ERP,) = PUBLISHERS
SEND = "sender.mail.send"
SERVICES = service_names()
PATIENCE = 120.0
"""Seconds that anything may take on a busy machine."""


def strangers(*always: str) -> pytest.MarkDecorator:
    """The publisher and these services always; all services with the matrix."""
    rare = [pytest.param(each, marks=matrix) for each in SERVICES if each not in always]
    return pytest.mark.parametrize("user", [ERP, *always, *rare])


REASON = re.compile(r"type '.*' on a queue of|routing key '.*' is none of|a retry without|expired:")


@strangers()
async def test_the_broker_refuses_what_is_not_the_users_by_key_exchange_queue_and_name(
    house: House, user: str, rabbitmq: local.Servers
) -> None:
    listed = await asyncio.to_thread(
        local.rabbitmqctl, rabbitmq, "list_exchanges", "-p", house.broker.vhost, "name"
    )
    exchanges = sorted({*listed.splitlines()[1:], ""} - {"mailroom", f"{user}.retry"})
    assert {"", "amq.topic", "mailroom.dead", "sender.retry"} <= {*exchanges, f"{user}.retry"}
    said = await publish_all(house, user, straight(house, user, exchanges))
    assert len(said) > len(forbidden(house, user)) * len(exchanges)
    assert {way for way, refusal in said.items() if "ACCESS_REFUSED" not in refusal} == set()
    said = await publish_all(house, user, as_another(house, user))
    assert len(said) >= len(forbidden(house, user))
    assert {way for way, refusal in said.items() if "user_id property" not in refusal} == set()
    assert await house.left_in_queues() == {}


@strangers("router")
async def test_what_reaches_a_queue_as_a_copy_is_parked_there_and_changes_nothing(
    house: House, user: str
) -> None:
    tries = list(by_copy(house, user))
    assert {each.contract for each in tries} == {each.name for each, _ in forbidden(house, user)}
    before = await house.all_rows()
    said = await publish_all(house, user, tries)
    assert set(said.values()) == {""}
    wanted = {parked for each in tries for parked in each.parked}
    async with house.open():
        await until(lambda: house.has_parked(wanted), within=PATIENCE)
    found = await house.parked()
    assert found.keys() == wanted
    assert [reason for reason in found.values() if not REASON.search(reason)] == []
    after = await house.all_rows()
    assert {table for table in after if after[table] != before[table]} == {
        f"{parked.queue.partition('.')[0]}.parked" for parked in wanted
    }
    assert await house.left_in_queues() == {}


async def test_the_same_events_take_effect_when_those_publish_them_who_may(house: House) -> None:
    wanted = set()
    for name, service in house.services.items():
        for contract in service.publishes:
            for key in routing_keys(contract):
                id_ = f"{name} {key}"
                body = house.an_example(contract, key)
                await house.publish(name, key, body, type=contract.name, message_id=id_)
                wanted |= {Parked(queue, name, id_) for queue in house.queues(key)}
    async with house.open():
        await until(lambda: house.has_handled(wanted), within=PATIENCE)


def request(key: str, account: str, **fields: object) -> bytes:
    asked = {"to": [{"address": "anna@customer.test"}], "subject": "Order 7", "text": "Shipped."}
    return json.dumps({"idempotency_key": key, "account": account, **asked, **fields}).encode()


async def test_a_publisher_sends_and_cancels_with_the_account_that_it_was_granted_and_no_other(
    house: House,
) -> None:
    other = house.known["idempotency_key"]
    async with house.open(relays=True):
        for key, account in (("mine", "service"), ("sold", "sales"), (other, "service")):
            await house.publish(ERP, "mail.send", request(key, account), type="mail.send")
        await house.publish(ERP, "mail.cancel", b'{"idempotency_key": "mine"}', type="mail.cancel")
        # Another's key is another's: this cancels his own request of that name, or none.
        body = json.dumps({"idempotency_key": other}).encode()
        await house.publish(ERP, "mail.cancel", body, type="mail.cancel")
        await until(lambda: house.told("mail.cancelled", 2), within=PATIENCE)
        (rejected,) = await until(lambda: house.told("mail.rejected", 1), within=PATIENCE)
    states = {
        (row["publisher"], row["idempotency_key"]): row["state"]
        for row in await house.rows("SELECT * FROM sender.requests")
    }
    assert states == {
        (ERP, "mine"): "cancelled",
        (ERP, other): "cancelled",
        ("ticketing", other): "accepted",
    }
    assert (rejected["publisher"], rejected["idempotency_key"]) == (ERP, "sold")
    assert [(error["field"], error["value"]) for error in rejected["errors"]] == [
        ("account", "sales")
    ]


async def test_a_refused_command_is_answered_to_the_proven_publisher_alone(house: House) -> None:
    wrong = b'{"idempotency_key": "k", "account": 7, "publisher": "ticketing"}'
    async with house.open(relays=True):
        await house.publish(ERP, "mail.send", wrong, type="mail.send", message_id="told")
        await house.publish(
            ERP, "mail.send", wrong, type="mail.send", message_id="nobody", user_id=None
        )
        wanted = {Parked(SEND, ERP, "told"), Parked(SEND, "", "nobody")}
        await until(lambda: house.has_parked(wanted), within=PATIENCE)
        (rejected,) = await until(lambda: house.told("mail.rejected", 1), within=PATIENCE)
    found = await house.parked()
    assert found.keys() == wanted
    assert found[Parked(SEND, "", "nobody")].startswith("no proven publisher")
    assert (rejected["publisher"], rejected["event_id"]) == (ERP, "told")
    assert len(await house.rows("SELECT 1 FROM sender.requests")) == 1


async def test_an_honest_command_with_a_copy_is_taken_where_it_belongs_and_nowhere_else(
    house: House,
) -> None:
    keys = [key for contract in CONTRACTS.values() for key in routing_keys(contract)]
    headers = {"CC": [key for key in keys if key != "mail.send"]}
    body = request("honest", "service")
    properties = {"type": "mail.send", "message_id": "honest", "headers": headers}
    await house.publish(ERP, "mail.send", body, **properties)
    wanted = {Parked(queue, ERP, "honest") for key in keys for queue in house.queues(key)}
    wanted -= {Parked(SEND, ERP, "honest")}
    async with house.open():
        await until(lambda: house.has_parked(wanted), within=PATIENCE)
        await until(lambda: house.has_handled({Parked(SEND, ERP, "honest")}), within=PATIENCE)
    assert (await house.parked()).keys() == wanted
    asked = await house.rows("SELECT 1 FROM sender.requests WHERE publisher = $1", ERP)
    assert len(asked) == 1
