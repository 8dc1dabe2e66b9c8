"""RabbitMQ comes back without its data: what an operator then does heals it, by the day partitions
of what was published. No second ticket, no second mail."""

import asyncio
import json
import shutil
import time

from deploy import local
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, check, mixed
from tests.faults.outages import Bringing, older_ticket, recovery, some_are_through


async def test_after_rabbitmq_lost_all_its_data_a_replay_brings_every_event_again_and_twice_none(
    own: OwnServers, healed: Firm, opened: list[Dialogue], mails: int
) -> None:
    firm = healed
    async with older_ticket(firm, opened) as older:
        before = firm.now
        post = await mixed(firm, older, mails)
        bringing = Bringing(firm, post.messages)
        bringing.may.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(bringing.bring_all())
            await some_are_through(firm, post)
            await asyncio.to_thread(lose_data, own)
            await operators_work(own, firm, before.isoformat())
            recovered = await recovery(firm, post, time.monotonic())
        await check(firm, post, older)
    print(f"\nRabbitMQ's data lost: recovered in {recovered:.1f} s")


def lose_data(own: OwnServers) -> None:
    local.stop(own.servers, "rabbitmq")
    shutil.rmtree(own.servers.folder / "rabbitmq" / "data")
    local.start(own.servers, "rabbitmq")


async def operators_work(own: OwnServers, firm: Firm, since: str) -> None:
    """As docs/operations.md says it: definitions, queues, events."""
    definitions = json.loads(await firm.asks("topology"))
    await asyncio.to_thread(local.import_definitions, own.servers, definitions)
    await firm.asks("migrate")
    for service in firm.processes:
        await firm.asks("replay", "--service", service, "--since", since)
