"""A program in Node asks for mails and hears what became of them, as docs/sending.md tells."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from signal import SIGKILL
from typing import Any

import aio_pika
import pytest

from deploy import local
from tests.installation import Broker
from tests.sender.office import Office, request, to
from tests.waiting import until

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "node"
BIN = Path(sys.executable).parent
"""Has node and npm, which come with the Python packages."""
PATH = {"PATH": f"{BIN}:/usr/bin:/bin"}
NODE = str(BIN / "node")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with what it needs, as `npm ci` installs it."""
    folder = tmp_path_factory.mktemp("node") / "erp"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, env={**os.environ, **PATH})
    return folder


@pytest.fixture
async def erp(office: Office, broker: Broker, rabbitmq: local.Servers) -> AsyncIterator[Broker]:
    """The broker, with a queue for what became of the program's mails."""
    office.broker_url = broker.url("sender")
    definitions = json.loads((EXAMPLE / "outcomes.json").read_text())
    for thing in chain(*definitions.values()):
        thing["vhost"] = broker.vhost
    await asyncio.to_thread(local.import_definitions, rabbitmq, definitions)
    yield broker
    (permission,) = definitions["permissions"]
    before = {"permissions": [permission | {"read": "^$"}]}
    await asyncio.to_thread(local.import_definitions, rabbitmq, before)
    async with await aio_pika.connect(broker.admin_url, timeout=10) as connection:
        await (await connection.channel()).queue_delete("erp.outcomes")


async def publish(example: Path, erp: Broker, asked: Any) -> str:
    running = await asyncio.create_subprocess_exec(
        NODE,
        "publish.js",
        cwd=example,
        env={**PATH, "MAILROOM_BROKER_URL": erp.url("erp")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await running.communicate(json.dumps(asked).encode())
    assert running.returncode == 0
    return printed.decode().strip()


@asynccontextmanager
async def outcomes(example: Path, erp: Broker) -> AsyncIterator[list[tuple[str, Any]]]:
    """What `node outcomes.js` prints, as it comes."""
    running = await asyncio.create_subprocess_exec(
        NODE,
        "outcomes.js",
        "erp.outcomes",
        cwd=example,
        env={**PATH, "MAILROOM_BROKER_URL": erp.url("erp")},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    heard: list[tuple[str, Any]] = []

    async def hear() -> None:
        assert running.stdout is not None
        while line := await running.stdout.readline():
            name, _, event = line.decode().partition(" ")
            heard.append((name, json.loads(event)))

    hearing = asyncio.create_task(hear())
    try:
        yield heard
    finally:
        # A group: what starts node may be a program that runs it as its child.
        os.killpg(running.pid, SIGKILL)
        await running.wait()
        await hearing


async def test_a_program_in_node_sends_and_hears_what_became_of_it(
    office: Office, example: Path, erp: Broker
) -> None:
    anna = office.mailbox()
    asked = request(to=[{"name": "Jörg Groß", "address": anna}], subject="Grüße", text="Schön.")
    wrong = request(account="nobody")
    async with office.process(), outcomes(example, erp) as heard:
        key = await publish(example, erp, asked.model_dump(mode="json"))
        assert key == asked.idempotency_key
        assert await publish(example, erp, asked.model_dump(mode="json")) == key
        await publish(example, erp, wrong.model_dump(mode="json"))
        await publish(example, erp, {"idempotency_key": "no-request", "to": to(anna)})
        (mail,) = await office.gets(anna, within=30)
        await until(lambda: {"mail.sent", "mail.filed"} <= {name for name, _ in heard}, within=30)
        await until(lambda: [name for name, _ in heard].count("mail.rejected") == 2, within=30)
    assert mail["Subject"] == "=?utf-8?B?R3LDvMOfZQ==?="
    (sent,) = [event for name, event in heard if name == "mail.sent"]
    assert (sent["publisher"], sent["idempotency_key"]) == ("erp", key)
    rejected = {
        event["idempotency_key"]: {error["field"] for error in event["errors"]}
        for name, event in heard
        if name == "mail.rejected"
    }
    assert rejected == {wrong.idempotency_key: {"account", "to"}, "no-request": {"account"}}
