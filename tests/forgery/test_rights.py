"""What the broker lets nobody do whose job it is not: make, bind, read, empty, remove anything."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, ExchangeType
from aio_pika.exceptions import ChannelClosed
from click.testing import CliRunner

from mailroom.cli import mailroom
from mailroom.messaging.consume import queues
from mailroom.messaging.topology import BURIED, DEAD_EXCHANGE, EXCHANGE, retry_exchange
from tests.installation import PUBLISHERS, Broker, installed_services, service_names

Attack = Callable[[AbstractChannel], Awaitable[object]]
USERS = pytest.mark.parametrize("user", [*PUBLISHERS, *service_names()])


def everybodys_queues() -> dict[str, str]:
    """Each queue, and whose it is."""
    own = {queue: each.name for each in installed_services() for queue in queues(each)}
    return own | {BURIED: ""}


def exchanges() -> list[str]:
    retries = [retry_exchange(name) for name in service_names()]
    return [EXCHANGE, DEAD_EXCHANGE, *retries, "amq.topic", "amq.rabbitmq.trace"]


def on_queue(name: str, user: str, owner: str) -> Iterator[tuple[str, Attack]]:
    """What may be done to a queue of another, or by nobody to any."""

    def queue(channel: AbstractChannel) -> Any:
        return channel.get_queue(name, ensure=False)

    async def bind(channel: AbstractChannel) -> None:
        await (await queue(channel)).bind(EXCHANGE, "mail.routed.private")

    async def unbind(channel: AbstractChannel) -> None:
        await (await queue(channel)).unbind(EXCHANGE, "mail.received")

    async def get(channel: AbstractChannel) -> None:
        await (await queue(channel)).get(fail=False)

    async def consume(channel: AbstractChannel) -> None:
        await (await queue(channel)).consume(print)

    async def purge(channel: AbstractChannel) -> None:
        await (await queue(channel)).purge()

    async def declare(channel: AbstractChannel) -> None:
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-message-ttl": 1}
        await channel.declare_queue(name, durable=True, arguments=arguments)

    yield f"declare {name}", declare
    yield f"delete {name}", lambda channel: channel.queue_delete(name)
    yield f"bind {name}", bind
    yield f"unbind {name}", unbind
    if user != owner:
        yield f"get {name}", get
        yield f"consume {name}", consume
        yield f"purge {name}", purge


def on_exchange(name: str) -> Iterator[tuple[str, Attack]]:
    async def bind(channel: AbstractChannel) -> None:
        await (await channel.get_exchange(name, ensure=False)).bind(EXCHANGE, "#")

    async def bind_from(channel: AbstractChannel) -> None:
        await (await channel.get_exchange(EXCHANGE, ensure=False)).bind(name, "mail.send")

    yield f"delete exchange {name}", lambda channel: channel.exchange_delete(name)
    yield f"bind exchange {name} to {EXCHANGE}", bind
    yield f"bind {EXCHANGE} to exchange {name}", bind_from


def on_what_is_not_there(user: str) -> Iterator[tuple[str, Attack]]:
    async def spy(channel: AbstractChannel) -> None:
        await channel.declare_queue(exclusive=True)

    async def own(channel: AbstractChannel) -> None:
        await channel.declare_queue(f"{user}.mine", durable=True)

    async def dead(channel: AbstractChannel) -> None:
        arguments: dict[str, Any] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "sender.mail.send",
        }
        await channel.declare_queue(f"{user}.detour", exclusive=True, arguments=arguments)

    async def exchange(channel: AbstractChannel) -> None:
        arguments: dict[str, Any] = {"alternate-exchange": "sender.retry"}
        await channel.declare_exchange(f"{user}.way", ExchangeType.TOPIC, arguments=arguments)

    yield "declare a queue without a name", spy
    yield "declare a queue of its own", own
    yield "declare a queue whose dead letters go to another's", dead
    yield "declare an exchange whose strays go to another's", exchange


def attacks(user: str) -> Iterator[tuple[str, Attack]]:
    for name, owner in everybodys_queues().items():
        yield from on_queue(name, user, owner)
    for name in exchanges():
        yield from on_exchange(name)
    yield from on_what_is_not_there(user)


@USERS
async def test_nobody_makes_binds_reads_empties_or_removes_what_is_not_his(
    broker: Broker, user: str
) -> None:
    said = {}
    async with await aio_pika.connect(broker.url(user)) as connection:
        for name, attack in attacks(user):
            channel = await connection.channel()
            try:
                await attack(channel)
                said[name] = "let pass"
            except ChannelClosed as refused:
                said[name] = str(refused)
    assert {name: why for name, why in said.items() if "ACCESS_REFUSED" not in why} == {}


@pytest.mark.usefixtures("installation")
def test_nobody_is_made_a_publisher_under_the_name_of_a_service(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    for name in ("ticketing", "shop-notifier"):
        words = ["topology", "--publisher", name, str(tmp_path / "password")]
        done = CliRunner().invoke(mailroom, words)
        assert done.exit_code == 2
        assert f"--publisher '{name}': begins as a service of Mailroom" in done.output
