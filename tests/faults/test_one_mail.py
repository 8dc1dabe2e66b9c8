"""One mail through the worst of it, for the page that tells of it: what `mailroom trace` shows."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from deploy import local
from deploy.local import mail_programs
from tests.docs.pages import blocks
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.looking import id_of, until_nothing_moves
from tests.waiting import until

PAGE = Path("docs/what-if.md")
LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{3}  (?P<service>.{10}) (?P<what>.{14})")
PATIENCE = 60.0
TURNS = [
    ("fetcher", "fetcher.objects_written"),
    ("fetcher", "fetcher.ledger_committed"),
    ("router", "handler.committed@router.mail.received"),
    ("ticketing", "handler.done@ticketing.mail.routed"),
    ("ticketing", "relay.confirmed"),
    ("sender", "sender.data_answered"),
    ("sender", "sender.copy_appended"),
]
"""Who dies on its way, and where. When the fetcher is through, the broker is killed, too; and the
database, when each of the others is."""


@pytest.fixture
def alone(own: OwnServers, own_working: Firm) -> Firm:
    """A firm where nothing else is under way, and nobody works."""
    own.heal()
    own_working.kill_all()
    return own_working


async def test_one_mail_through_the_worst_is_one_ticket_and_its_trace_says_what_happened(
    alone: Firm, own: OwnServers
) -> None:
    firm, customer = alone, alone.customer()
    mail = mail_programs.write(customer, [firm.service.address], "Where is my parcel?", "Please.\n")
    await firm.gets(mail)
    for number, (service, crashpoint) in enumerate(TURNS):
        firm.start(service, crashpoint)
        await dies(firm, service)
        if service not in dict(TURNS[number + 1 :]):
            await restarted(own, "rabbitmq" if service == "fetcher" else "postgresql")
            firm.start(service)
    firm.start_missing()
    await until_nothing_moves(firm, [id_of(mail)])
    (answer, again) = firm.folder(customer)
    assert id_of(answer) == id_of(again)
    (ticket,) = [
        line
        for line in (await firm.asks("ticket", "list")).splitlines()
        if customer.address in line
    ]
    assert "Where is my parcel?" in ticket
    traced = await firm.asks("trace", id_of(mail))
    print(traced)
    assert way(traced) == way(blocks(PAGE, "text")[-1].text)


async def restarted(own: OwnServers, server: local.ServerName) -> None:
    await asyncio.to_thread(local.kill, own.servers, server)
    await asyncio.to_thread(local.start, own.servers, server)


async def dies(firm: Firm, service: str) -> None:
    """At its crashpoint; whatever it waits for by the clock comes at once."""
    process = firm.processes[service].guard

    def has_died() -> bool:
        firm.pass_time(timedelta(seconds=1))
        return process.ended

    await until(has_died, within=PATIENCE, every=0.2)
    await firm.is_killed(service)


def way(trace: str) -> Counter[tuple[str, str]]:
    """Which service did what, and how often: what happens at the same time has no order."""
    found = (LINE.match(line) for line in trace.splitlines())
    return Counter((line["service"].strip(), line["what"].strip()) for line in found if line)
