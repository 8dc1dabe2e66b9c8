import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import aio_pika
import pytest
from sqlalchemy import make_url

from mailroom.contracts import AccountObserved
from mailroom.messaging.topology import EXCHANGE
from tests.directory.conftest import Mailroom
from tests.installation import Broker
from tests.messaging.cable import cable
from tests.waiting import until


@asynccontextmanager
async def serving(environment: dict[str, str], log: int | None = None) -> AsyncIterator[None]:
    """`mailroom serve directory`, ended by SIGTERM; its log goes to the file of this number."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from mailroom.cli import main; main()",
        "serve",
        "directory",
        env={**environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        stdout=log,
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


async def test_while_its_database_is_away_no_work_of_a_service_is_called_broken(
    installed: Mailroom, tmp_path: Path
) -> None:
    log, setting = tmp_path / "log", "MAILROOM_DIRECTORY_DATABASE_URL"
    url = make_url(installed.environment[setting])

    def told(event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
        return [line for line in lines if line["event"] == event]

    async with cable(url.host or "", url.port or 5432) as line:
        behind = url.set(host="127.0.0.1", port=line.port).render_as_string(hide_password=False)
        with log.open("w") as file:
            async with serving({**installed.environment, setting: behind}, file.fileno()):
                await until(lambda: told("started"), within=30)
                line.cut()
                # By the first it leaves a connection that was cut; by the second it gets no other.
                await until(
                    lambda: (
                        [each["task"] for each in told("task_waits_for_database")]
                        == ["end_who_stands_still"] * 2
                    ),
                    within=30,
                )
                assert not told("task_failed")
