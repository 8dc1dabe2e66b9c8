"""What the broker has, and what it lets nobody do."""

import json
import re
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, ExchangeType
from aio_pika.exceptions import ChannelClosed, PublishError

from deploy import local
from mailroom.messaging import topology
from tests.installation import Broker
from tests.messaging.conftest import NAMES, declare, queues
from tests.messaging.world import DESK, SERVICES, SHOP

PASSWORDS = dict.fromkeys(("mailroom", "shop", "desk", "erp"), "secret")


def defined(**more: Any) -> dict[str, Any]:
    return topology.definitions(SERVICES, "v", PASSWORDS, **more)


def policy_of(queue: str) -> list[str]:
    return [
        policy["name"] for policy in defined()["policies"] if re.search(policy["pattern"], queue)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_dead_letters_have_another_policy_than_the_queues_they_come_from(name: str) -> None:
    assert policy_of(f"{name}.order.placed") == [name]
    assert policy_of(topology.dead_queue(name)) == ["dead"]
    assert policy_of(topology.BURIED) == ["buried"]


def test_every_delivery_limit_has_a_dead_letter_exchange_since_without_one_it_drops() -> None:
    limited = [each["definition"] for each in defined()["policies"] if each["name"] != "buried"]
    assert len(limited) == len(SERVICES) + 1
    for definition in limited:
        assert definition["delivery-limit"] >= 20
        assert definition["dead-letter-exchange"] == topology.DEAD_EXCHANGE
        assert definition["dead-letter-routing-key"]
        assert definition["dead-letter-strategy"] == "at-least-once"
        assert definition["overflow"] == "reject-publish"
        assert "max-length" not in definition


def test_services_may_configure_nothing_and_write_only_what_they_publish() -> None:
    permissions = {each["user"]: each for each in defined(publishers=["erp"])["permissions"]}
    for name in [*NAMES, "erp"]:
        assert permissions[name]["configure"] == "^$"
    topics = {each["user"]: each for each in defined(publishers=["erp"])["topic_permissions"]}
    assert re.search(topics["shop"]["write"], "order.placed.big")
    assert not re.search(topics["shop"]["write"], "order.placed.bigger")
    assert not re.search(topics["shop"]["write"], "order-placed.big")
    assert not re.search(topics["desk"]["write"], "order.placed.big")
    assert re.search(topics["erp"]["write"], "mail.send")
    assert not re.search(topics["erp"]["write"], "mail.sent")


def test_a_service_reads_its_own_queues_and_not_its_retry_exchange() -> None:
    """Who may read an exchange may bind it: that way leads past the topic permissions."""
    read = {each["user"]: each["read"] for each in defined()["permissions"]}
    own = ["desk.order.placed", "desk.mail.send", "dead.desk"]
    assert all(re.search(read["desk"], name) for name in own)
    others = ["desk.retry", "desk.order", "dead.shop", "shop.retry", "mailroom", "mailroom.dead"]
    assert not any(re.search(read["desk"], name) for name in others)


def test_a_publisher_reads_the_queues_that_were_made_for_it_and_no_others() -> None:
    """Importing these definitions again, as with each version, would else end what it hears."""
    read = {each["user"]: each["read"] for each in defined(publishers=["erp"])["permissions"]}
    assert re.search(read["erp"], "erp.outcomes")
    others = ["desk.order.placed", "dead.desk", "desk.retry", "mailroom", "my.erp.outcomes", "erp"]
    assert not any(re.search(read["erp"], name) for name in others)


def test_passwords_leave_as_hashes_and_a_user_without_one_is_left_out() -> None:
    assert "secret" not in json.dumps(defined())
    assert defined() == defined()
    some = topology.definitions(SERVICES, "v", {"shop": "secret"}, ["erp"])
    assert [user["name"] for user in some["users"]] == ["shop"]


OURS = ["dead", "buried", "mailroom", "desk", "ticketing", "crm-linker"]


@pytest.mark.parametrize("name", [*OURS, "desk.order", "ticketing.mail", "dead.desk"])
def test_a_publisher_with_a_name_of_ours_is_refused(name: str) -> None:
    """It would take a service's rights away, could send with every account as a service may, or
    read a service's queues as its own."""
    with pytest.raises(topology.NameTaken, match=name):
        defined(publishers=[name])


async def test_queues_are_quorum_queues_under_their_policies(
    broker: Broker, rabbitmq: local.Servers
) -> None:
    text = local.rabbitmqctl(
        rabbitmq,
        *("list_queues", "-p", broker.vhost, "name", "type", "policy", "arguments"),
        *("--formatter", "json"),
    )
    shown = {each["name"]: each for each in json.loads(text)}
    assert shown.keys() == {*queues(), topology.BURIED}
    assert {each["type"] for each in shown.values()} == {"quorum"}
    assert shown["desk.order.placed"]["policy"] == "desk"
    assert shown["dead.desk"]["policy"] == "dead"
    # Limits as arguments could never be changed.
    assert all(len(each["arguments"]) == 1 for each in shown.values())


async def test_declaring_again_changes_nothing(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url("shop")) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("mailroom", ensure=False)
        await exchange.publish(message("shop"), "order.placed.small")
    await declare(broker)
    async with await aio_pika.connect(broker.admin_url) as connection:
        queue = await (await connection.channel()).get_queue("desk.order.placed")
        assert queue.declaration_result.message_count == 1


async def refused(broker: Broker, user: str, key: str, exchange: str = "mailroom") -> bool:
    async with await aio_pika.connect(broker.url(user)) as connection:
        channel = await connection.channel(on_return_raises=True)
        to = await channel.get_exchange(exchange, ensure=False)
        try:
            await to.publish(message(user), key)
        except ChannelClosed as closed:
            return "ACCESS_REFUSED" in str(closed)
        except PublishError:
            return False
    return False


def message(user: str) -> aio_pika.Message:
    return aio_pika.Message(b"{}", message_id="m", user_id=user)


@pytest.mark.parametrize(
    ("user", "exchange", "key", "is_refused"),
    [
        ("shop", "mailroom", "order.placed.small", False),
        ("shop", "mailroom", "order.shipped", True),
        ("shop", "shop.retry", "shop.any", False),
        ("shop", "desk.retry", "desk.order.placed", True),
        ("shop", "mailroom.dead", "dead.desk", True),
        ("shop", "", "desk.order.placed", True),
        ("erp", "mailroom", "mail.send", False),
        ("erp", "mailroom", "order.placed.small", True),
        ("erp", "desk.retry", "desk.order.placed", True),
        ("erp", "", "desk.mail.send", True),
    ],
)
async def test_a_user_publishes_what_it_may_and_nothing_else(
    broker: Broker, user: str, exchange: str, key: str, *, is_refused: bool
) -> None:
    assert await refused(broker, user, key, exchange) is is_refused


async def test_nobody_carries_another_users_name(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url("erp")) as connection:
        exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
        with pytest.raises(ChannelClosed, match="user_id property set to 'shop'"):
            await exchange.publish(message("shop"), "mail.send")


async def open_to(broker: Broker, user: str) -> tuple[aio_pika.abc.AbstractConnection, Any]:
    connection = await aio_pika.connect(broker.url(user))
    return connection, await connection.channel()


@pytest.mark.parametrize("user", ["desk", "erp"])
async def test_a_service_or_publisher_can_neither_declare_nor_bind_nor_read_others_queues(
    broker: Broker, user: str
) -> None:
    async def declare_queue(channel: AbstractChannel) -> None:
        await channel.declare_queue("desk.mine", durable=True)

    async def declare_exchange(channel: AbstractChannel) -> None:
        await channel.declare_exchange("mine", ExchangeType.TOPIC)

    async def bind(channel: AbstractChannel) -> None:
        queue = await channel.get_queue("desk.mail.send", ensure=False)
        await queue.bind("mailroom", "order.placed.small")

    async def read(channel: AbstractChannel) -> None:
        queue = await channel.get_queue("dead.shop", ensure=False)
        await queue.get(fail=False)

    for attempt in (declare_queue, declare_exchange, bind, read):
        connection, channel = await open_to(broker, user)
        async with connection:
            with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
                await attempt(channel)


def test_the_queue_of_a_subscription_is_bound_to_every_key_of_its_contract_or_to_those_named() -> (
    None
):
    orders = DESK.subscriptions[0]
    assert topology.binding_keys(orders) == ("order.placed.small", "order.placed.big")
    assert topology.routing_keys(SHOP.publishes[1]) == ("order.cancel",)
