import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import aio_pika
import pytest

from mailroom.contracts import AccountObserved
from mailroom.messaging.topology import EXCHANGE
from tests.directory.conftest import Mailroom
from tests.installation import Broker
from tests.waiting import until


@asynccontextmanager
async def serving(environment: dict[str, str]) -> AsyncIterator[None]:
    """`mailroom serve directory`, ended by SIGTERM."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from mailroom.cli import main; main()",
        "serve",
        "directory",
        env={**environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    try:
        yield
    finally:
        running.terminate()
        assert await asyncio.wait_for(running.wait(), 20) == 0


@pytest.fixture
def installed(mailroom: Mailroom, broker: Broker) -> Mailroom:
    mailroom.environment["MAILROOM_DIRECTORY_BROKER_URL"] = broker.url("directory")
    return mailroom


async def test_the_running_service_tells_changes_and_notes_how_accounts_fare(
    installed: Mailroom, broker: Broker
) -> None:
    def a_person_works() -> UUID:
        installed("mailbox", "add", "service")
        installed(
            "account", "add", "service", "--mailbox", "service", "--address", "a@example.com",
            "--imap", "imaps://localhost", "--password-stdin", "--no-test", stdin="hunter2",
        )  # fmt: skip
        installed("account", "fetch", "service")
        return UUID(installed.shows("account", "service")["id"])

    account = await asyncio.to_thread(a_person_works)
    async with (
        await aio_pika.connect(broker.admin_url) as subscriber,
        await aio_pika.connect(broker.url("fetcher")) as fetcher,
    ):
        queue = await (await subscriber.channel()).declare_queue(exclusive=True)
        for key in ("directory.changed", "account.fetch"):
            await queue.bind(EXCHANGE, key)
        async with serving(installed.environment), queue.iterator(timeout=30) as messages:
            told = [await anext(messages) for _ in range(3)]
            assert [message.routing_key for message in told] == [
                "directory.changed",
                "directory.changed",
                "account.fetch",
            ]
            assert {message.user_id for message in told} == {"directory"}
            assert json.loads(told[2].body) == {"account": str(account)}
            assert b"hunter2" not in b"".join(message.body for message in told)

            await observe(fetcher, account, "wrong password")

            async def noted() -> bool:
                shown = await asyncio.to_thread(installed, "account", "list")
                return "wrong password" in shown

            await until(noted, within=30)


async def observe(fetcher: aio_pika.abc.AbstractConnection, account: UUID, problem: str) -> None:
    """Publish as the fetcher does."""
    moment = datetime.now(UTC)
    event = AccountObserved(
        account=account,
        state="failing",
        problem=problem,
        since=moment,
        observed_at=moment,
        mails=3,
    )
    exchange = await (await fetcher.channel()).get_exchange(EXCHANGE, ensure=False)
    message = aio_pika.Message(
        event.model_dump_json().encode(),
        message_id=str(uuid4()),
        type=event.name,
        timestamp=moment,
        user_id="fetcher",
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await exchange.publish(message, routing_key=event.routing_key())
