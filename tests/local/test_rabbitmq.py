import os
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import ChannelAccessRefused

from deploy import local
from tests.waiting import until

VHOST = "imported"


def definitions() -> dict[str, Any]:
    here: dict[str, Any] = {"vhost": VHOST}
    durable: dict[str, Any] = {**here, "durable": True, "auto_delete": False, "arguments": {}}
    may_all = {"configure": ".*", "write": ".*", "read": ".*"}
    may_work = {"configure": "^$", "write": "^mailroom$", "read": r"^router\."}
    quorum = {"arguments": {"x-queue-type": "quorum"}}
    bound = {"source": "mailroom", "destination": "router.mail", "destination_type": "queue"}
    limit = {"delivery-limit": 2}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [{"name": "worker", "password": "secret", "tags": ""}],
        "permissions": [
            {**here, "user": "worker", **may_work},
            {**here, "user": "admin", **may_all},
        ],
        "topic_permissions": [
            {**here, "user": "worker", "exchange": "mailroom", "write": r"^mail\.", "read": ".*"}
        ],
        "exchanges": [{**durable, "name": "mailroom", "type": "topic", "internal": False}],
        "queues": [{**durable, "name": "router.mail", **quorum}],
        "bindings": [{**here, **bound, "routing_key": "mail.*", "arguments": {}}],
        "policies": [
            {**here, "name": "limit", "pattern": "^router", "apply-to": "queues"}
            | {"definition": limit, "priority": 1}
        ],
    }


@pytest.fixture
def imported(rabbitmq: local.Servers) -> local.Servers:
    local.import_definitions(rabbitmq, definitions())
    return rabbitmq


def url(servers: local.Servers, user: str, password: str) -> str:
    return f"amqp://{user}:{password}@{servers.rabbitmq.host}:{servers.rabbitmq.port}/{VHOST}"


def test_a_node_runs_on_one_cpu(rabbitmq: local.Servers) -> None:
    """On two it takes half as long again to start, and to relay."""
    told = local.rabbitmqctl(rabbitmq, "eval", "os:getpid().")
    assert len(os.sched_getaffinity(int(told.strip().strip('"')))) == 1


async def test_imported_definitions_are_in_force_at_once(imported: local.Servers) -> None:
    async with await aio_pika.connect(url(imported, "worker", "secret"), timeout=10) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("mailroom", ensure=False)
        queue = await channel.get_queue("router.mail", ensure=False)
        await exchange.publish(aio_pika.Message(b"hello"), "mail.received", timeout=10)
        arrived = await until(lambda: queue.get(fail=False))
        assert arrived.body == b"hello"
        await arrived.ack()
        with pytest.raises(DeliveryError):
            await exchange.publish(aio_pika.Message(b"?"), "mail.bound.nowhere", timeout=10)
        with pytest.raises(ChannelAccessRefused):
            await exchange.publish(aio_pika.Message(b"?"), "record.changed", timeout=10)


async def test_a_policy_of_the_definitions_is_in_force(imported: local.Servers) -> None:
    listed = local.rabbitmqctl(imported, "list_queues", "-p", VHOST, "name", "policy")
    assert "router.mail\tlimit" in listed


def test_importing_again_changes_nothing(imported: local.Servers) -> None:
    local.import_definitions(imported, definitions())


def test_definitions_that_cannot_be_are_refused(rabbitmq: local.Servers) -> None:
    wrong = {"permissions": [{"vhost": "absent", "user": "nobody", "configure": "", "write": ""}]}
    with pytest.raises(local.RabbitmqctlFailed, match="import_definitions"):
        local.import_definitions(rabbitmq, wrong)
