"""Nothing grows that should not: no memory with the mails, nothing at all with each reconnect, and
no series of the metrics."""

import asyncio
import json
import os
import smtplib
from dataclasses import asdict, replace
from email.message import EmailMessage
from itertools import cycle, islice
from random import Random

import pytest

from deploy import local
from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.looking import until_nothing_moves
from tests.faults.outages import are_ready, number
from tests.faults.processes import Held, held, metrics
from tests.installation import service_names
from tests.waiting import until

matrix = pytest.mark.matrix

FEW, MANY = 1_000, 10_000
GROWTH = 1.10
AS_LONG_AS_IT_TAKES = 3600.0
SIZES = [*[2_000] * 14, *[45_000] * 5, 400_000]
"""Bytes, as mails come: most are small."""
ACKNOWLEDGED = 5
"""Each fifth; the others say that nobody wrote them (RFC 3834), and are tickets all the same."""


@pytest.fixture
def fast_firm(new_firm: Firm) -> Firm:
    """Its accounts may send as many mails a minute as they like; its services weigh their own."""
    new_firm.nursery = None
    fast = {"MAILROOM_SENDER_RATE_PER_MINUTE": "1000000"}
    new_firm.it = replace(new_firm.it, environment={**new_firm.it.environment, **fast})
    return new_firm


@matrix
async def test_memory_after_ten_thousand_mails_is_what_it_was_after_one_thousand(
    fast_firm: Firm,
) -> None:
    fast_firm.start_missing()
    await are_ready(fast_firm)
    customer = fast_firm.customer()
    await through(fast_firm, customer, 0, FEW)
    few, told = holdings(fast_firm), series(fast_firm)
    await through(fast_firm, customer, FEW, MANY)
    many = holdings(fast_firm)
    print(table(few, many))
    for name in service_names():
        assert many[name].memory < GROWTH * few[name].memory, table(few, many)
    assert series(fast_firm) == told, "labels come from a list, and not from mails"


async def through(firm: Firm, customer: Person, begin: int, end: int) -> None:
    """Bring mails number `begin` to `end`, and wait until all that they cause is done."""
    await asyncio.to_thread(bring, firm, customer, begin, end)
    query = "SELECT count(*) FROM ticketing.mail WHERE ticket IS NOT NULL AND subject LIKE 'No %'"

    async def all_there() -> bool:
        return await number(firm, query) >= end

    await until(all_there, within=AS_LONG_AS_IT_TAKES, every=1.0)
    filed = "SELECT count(*) FROM sender.copies WHERE state = 'filed'"

    async def all_answered() -> bool:
        return await number(firm, filed) >= end // ACKNOWLEDGED

    await until(all_answered, within=AS_LONG_AS_IT_TAKES, every=1.0)
    await until_nothing_moves(firm, [])


def bring(firm: Firm, customer: Person, begin: int, end: int) -> None:
    """As another server of the provider does: straight to Dovecot."""
    random = Random(begin)  # noqa: S311 -- no secret
    sizes = islice(cycle(SIZES), begin, end)
    with smtplib.LMTP("127.0.0.1", firm.it.servers.dovecot.lmtp, timeout=60) as lmtp:
        for count, size in zip(range(begin, end), sizes, strict=True):
            lmtp.send_message(mail(firm, customer, count, random.randbytes(size)))


def mail(firm: Firm, customer: Person, count: int, content: bytes) -> EmailMessage:
    """Each that is acknowledged is somebody else's: nobody gets two of them within an hour."""
    writer = customer if count % ACKNOWLEDGED else firm.customer()
    message = mail_programs.write(writer, [firm.service.address], f"No {count}", "Where is it?\n")
    message.add_attachment(content, "application", "pdf", filename="order.pdf")
    if writer == customer:
        message["Auto-Submitted"] = "auto-replied"
    return message


def holdings(firm: Firm) -> dict[str, Held]:
    return {name: held(firm, name) for name in service_names()}


def series(firm: Firm) -> dict[str, set[str]]:
    return {name: set(metrics(firm, name)) for name in service_names()}


def table(before: dict[str, Held], after: dict[str, Held]) -> str:
    lines = [f"{'':10} {'memory':>17} {'handles':>9} {'threads':>9} {'children':>9} {'tasks':>9}"]
    for name, one in before.items():
        other = after[name]
        memory = f"{one.memory / 1e6:.1f} → {other.memory / 1e6:.1f} MB"
        rest = (
            f"{asdict(one)[what]} → {asdict(other)[what]}"
            for what in ("handles", "threads", "children", "tasks")
        )
        lines.append(f"{name:10} {memory:>17} " + " ".join(f"{pair:>9}" for pair in rest))
    return "\n".join(lines)


COME_BACK = {"rabbitmq": 10, "postgresql": 5, "dovecot": 2, "postfix": 1}
"""Connections that are made again by themselves: each service's consumer and drain, its listener,
each account's fetcher; and with the next mail that of the sender. A relay connects again when it
has something to publish."""


MAY_BE_MORE = {"threads": len(service_names()) * min(32, (os.cpu_count() or 1) + 4)}
"""A pool's thread is started when all others happen to work, up to the pool's size in Python."""


LOOKS = 3
"""An account's folders are looked at every few seconds, for which a connection more may be open."""


LOST = [
    ("postgresql", 3),
    *(pytest.param(server, 100, marks=matrix) for server in COME_BACK),
]


@pytest.mark.parametrize(("server", "times"), LOST)
async def test_nothing_is_left_over_of_lost_connections(
    healed: Firm, own: OwnServers, server: local.ServerName, times: int
) -> None:
    customer = healed.customer()
    # As started, each has all its connections; after the first loss, what that needs at first.
    healed.kill_all()
    healed.start_missing()
    await are_ready(healed)
    await asyncio.to_thread(send, healed, customer)
    looks = [await at_rest(healed, own) for _ in range(LOOKS)]
    await reconnected(healed, own, server, customer)
    looks += [await at_rest(healed, own) for _ in range(LOOKS)]
    before = {what: max(look[what] for look in looks) for what in looks[0]}
    for _ in range(times):
        await reconnected(healed, own, server, customer)

    async def nothing_more() -> bool:
        now = await at_rest(healed, own)
        more = {what: count - before[what] for what, count in now.items()}
        more = {what: count for what, count in more.items() if count > MAY_BE_MORE.get(what, 0)}
        assert not more, more
        return True

    await until(nothing_more, within=2 * PATIENCE, every=1.0)


async def reconnected(
    firm: Firm, own: OwnServers, server: local.ServerName, customer: Person
) -> None:
    """Lose all connections to a server: all is ready again, and a mail finds its way."""
    line = own.proxy_of(server)
    enough = line.taken + COME_BACK[server]
    line.reset()
    await asyncio.to_thread(send, firm, customer)
    await until(lambda: line.taken >= enough, within=PATIENCE)
    await are_ready(firm)


def send(firm: Firm, customer: Person) -> None:
    asked = {"account": "service", "to": [{"address": customer.address}]}
    firm.does("send", "--wait", text=json.dumps({**asked, "subject": "News", "text": "None."}))


async def at_rest(firm: Firm, own: OwnServers) -> dict[str, int]:
    """What all processes hold, and what the servers know of them."""
    found = await asyncio.to_thread(holdings, firm)
    database = firm.database.name
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename LIKE 'mailroom_%'"
    pooled = await number(firm, query, database)
    listed = await asyncio.to_thread(
        local.rabbitmqctl, own.servers, "list_connections", "user", "channels"
    )
    channels = [int(row.split()[1]) for row in listed.splitlines()[1:]]
    return {
        # How many connections of its pool a service has just used is as it happens.
        "handles": sum(one.handles for one in found.values()) - pooled,
        "threads": sum(one.threads for one in found.values()),
        "children": sum(one.children for one in found.values()),
        "tasks": sum(one.tasks for one in found.values()),
        "connections to RabbitMQ": len(channels),
        "channels": sum(channels),
        "connections to IMAP": own.imap.open_connections,
        "connections to SMTP": own.smtp.open_connections,
    }
