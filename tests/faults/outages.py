"""A server is away: each way in which one can be, and what a test does meanwhile.

Invariant: everything is taken back by `end`, so that the servers run and the lines are whole.
"""

import asyncio
import smtplib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from typing import Literal

import asyncpg

from deploy import local
from deploy.local import mail_programs
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.looking import until_nothing_moves
from tests.faults.mails import Dialogue, Post, open_ticket
from tests.faults.probing import faults, said
from tests.waiting import until

How = Literal["stopped", "killed", "frozen", "reset", "blackholed"]
When = Literal["at rest", "in mid-work"]
Length = Literal["short", "long"]

BROKER_AND_DATABASE: Sequence[local.ServerName] = ("rabbitmq", "postgresql")
RECOVERED_WITHIN = 10.0
"""Seconds from a server's first answer until all is ready and the first mail moves on."""
BEYOND_EVERY_RETRY = timedelta(days=2)
"""Longer than any pause in the code, and within the three days for which a mail is tried."""


@dataclass(frozen=True)
class Outage:
    """One case."""

    server: local.ServerName
    how: How
    when: When
    length: Length

    def __str__(self) -> str:
        return f"{self.server}-{self.how}-{self.when}-{self.length}".replace(" ", "-")


def begin(own: OwnServers, outage: Outage) -> None:
    """Take the server away."""
    proxy = own.proxy_of(outage.server)
    match outage.how:
        case "stopped":
            local.stop(own.servers, outage.server)
        case "killed":
            local.kill(own.servers, outage.server)
        case "frozen":
            local.freeze(own.servers, outage.server)
        case "reset" if outage.length == "short":
            proxy.reset()
        case "reset":
            proxy.refuse()
        case "blackholed":
            proxy.blackhole()


def end(own: OwnServers, outage: Outage) -> float:
    """Give it back; when it answered again, by the monotonic clock."""
    match outage.how:
        case "stopped" | "killed":
            local.start(own.servers, outage.server)
        case "frozen":
            local.thaw(own.servers, outage.server)
        case _:
            own.proxy_of(outage.server).heal()
    return time.monotonic()


@dataclass
class Bringing:
    """Customers' servers bring mails one by one; they wait while nothing can be brought."""

    firm: Firm
    messages: Sequence[EmailMessage]
    may: asyncio.Event = field(default_factory=asyncio.Event)
    in_hand: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def bring_all(self) -> None:
        """Return when each has been taken."""
        for message in self.messages:
            await self.may.wait()
            async with self.in_hand:
                await asyncio.to_thread(mail_programs.post, self.firm.it.servers, message)

    async def pause(self) -> None:
        """Bring none from now on; of the one in hand it is then known that it was taken."""
        self.may.clear()
        async with self.in_hand:
            return


async def bring_to_dovecot(firm: Firm, messages: Sequence[EmailMessage]) -> None:
    """While Postfix is away: as another server of the provider would."""
    port = firm.it.servers.dovecot.lmtp

    def bring() -> None:
        with smtplib.LMTP("127.0.0.1", port, timeout=30) as lmtp:
            for message in messages:
                # One at a time: smtplib reads one answer, and LMTP gives one for each of them.
                for address in message["To"].addresses:
                    lmtp.send_message(message, to_addrs=[address.addr_spec])

    await asyncio.to_thread(bring)


async def number(firm: Firm, query: str, *values: object) -> int:
    """What PostgreSQL itself answers to a query for one number."""
    connection = await asyncpg.connect(firm.database.superuser_url)
    try:
        return int(await connection.fetchval(query, *values))
    finally:
        await connection.close()


async def through(firm: Firm, post: Post) -> set[str]:
    """Which of these mails are at a ticket; looked up at the database itself."""
    ids = [mail.id for mail in post.mails]
    connection = await asyncpg.connect(firm.database.superuser_url)
    try:
        rows = await connection.fetch(
            "SELECT coalesce(message_id, subject) FROM ticketing.mail"
            " WHERE ticket IS NOT NULL AND coalesce(message_id, subject) = ANY($1)",
            ids,
        )
    finally:
        await connection.close()
    return {str(row[0]) for row in rows}


async def some_are_through(firm: Firm, post: Post, number: int = 5) -> None:
    async def some() -> bool:
        return len(await through(firm, post)) >= number

    await until(some, within=30)


async def are_ready(firm: Firm, within: float = PATIENCE) -> None:
    """Wait until all services say so."""

    async def ready() -> bool:
        found = await asyncio.to_thread(faults, firm)
        assert not found, found
        return True

    await until(ready, within=within)


NOTICED = {
    "rabbitmq": "relay_waits",
    "postgresql": "database_away",
    "dovecot": "account_failing",
    "postfix": "server_unreachable",
}
"""What the log says, for whoever watches it, of a server that is away."""


async def is_noticed(firm: Firm, server: local.ServerName, since: dict[str, int]) -> None:
    """Wait until the services say that this server is away, by /readyz or in their logs."""
    all_ = len(firm.processes)

    async def noticed() -> bool:
        if server in BROKER_AND_DATABASE and len(await asyncio.to_thread(faults, firm)) == all_:
            return True
        return has_logged(firm, NOTICED[server], since)

    await until(noticed, within=PATIENCE)


FAULTS_OF_OURS = {
    "task_failed",
    "account_failed",
    "attending_failed",
    "mail_broke_us",
    "copy_broke_us",
}
"""What is logged with a traceback, for us to mend; an outage is none."""


def faults_of_ours(firm: Firm, since: dict[str, int]) -> list[str]:
    """Those that were logged after so many bytes."""
    return [
        f"{name}: {line}"
        for name in since
        for line in said(firm, name, since[name])
        if line.get("event") in FAULTS_OF_OURS
    ]


def has_logged(firm: Firm, event: str, since: dict[str, int]) -> bool:
    """Whether a service's log has this event, after so many bytes of it."""
    return any(
        line.get("event") == event for name in since for line in said(firm, name, since[name])
    )


async def recovery(firm: Firm, post: Post, answered: float) -> float:
    """Seconds from `answered` until all services are ready and the first waiting mail moves on."""
    before = await through(firm, post)
    await are_ready(firm)

    async def moves() -> bool:
        there = await through(firm, post)
        return there > before or len(there) == len(post.mails)

    await until(moves, within=PATIENCE)
    return time.monotonic() - answered


@asynccontextmanager
async def older_ticket(firm: Firm, opened: list[Dialogue]) -> AsyncIterator[Dialogue]:
    """A ticket that is there; a case that fails leaves none for the next one."""
    await are_ready(firm)
    if not opened:
        await until_nothing_moves(firm, [])
        opened.append(await open_ticket(firm))
    older = opened.pop()
    yield older
    opened.append(older)
