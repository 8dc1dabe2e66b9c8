"""A connection is cut, or an answer lost, at the worst moments of each protocol: every mail is one
ticket, and every acknowledgement has left once, or is shown as unknown."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from deploy.local import mail_programs
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, Post, check, mixed
from tests.faults.outages import faults_of_ours, number, older_ticket
from tests.faults.probing import logged
from tests.faults.traps import Said, client, server
from tests.waiting import until

ACK = b"\x00\x3c\x00\x50"
"""Class basic, method ack (AMQP 0-9-1): the broker confirms by it, and a consumer acknowledges."""
FINAL_DOT = b"\r\n.\r\n"
IN_PLAIN_VIEW = 40
"""Seconds within which what a case waits for happens, on a busy machine."""

Count = Callable[[Firm, Post], Awaitable[int]]


def rows(table: str) -> Count:
    """How many rows a table has."""

    async def count(firm: Firm, _: Post) -> int:
        return await number(firm, f"SELECT count(*) FROM {table}")  # noqa: S608

    return count


async def received(firm: Firm, post: Post) -> int:
    """How many acknowledgements the customers have."""

    def count() -> int:
        return sum(len(mail_programs.uids(firm.it.servers, one)) for one in post.customers)

    return await asyncio.to_thread(count)


async def copied(firm: Firm, _: Post) -> int:
    """How many mails lie in Sent."""
    servers, service = firm.it.servers, firm.service
    return len(await asyncio.to_thread(mail_programs.uids, servers, service, "Sent"))


@dataclass(frozen=True)
class Case:
    """On the line to a server, when these words have been said, one after the other."""

    line: str
    said: tuple[Said, ...]
    then: int = 0
    """Bytes more, before the connection is cut."""
    grows: Count | None = None
    """Instead of a cut the answer is lost; and the connection, when this has grown."""
    whose: bytes = b""
    """Among the first words of the client, if it must be a certain one."""
    is_unknown: bool = False
    """Whether nobody can know then what became of a mail of ours."""


def lost_commit(service: str, event: str, table: str, *, is_unknown: bool = False) -> Case:
    """The answer to the COMMIT that follows a word of a service to PostgreSQL."""
    said = (client(event.encode()), client(b"COMMIT"))
    whose = f"mailroom_{service}".encode()
    return Case("postgresql", said, grows=rows(table), whose=whose, is_unknown=is_unknown)


ROUTED = client(b"mail.routed.central")
CASES = {
    "imap: the answer to FETCH begins": Case("imap", (server(b" BODY[] {"),)),
    "imap: in the middle of a body": Case("imap", (server(b" BODY[] {"),), then=3_000),
    "imap: a mail is told in IDLE": Case("imap", (server(b"+ idling"), server(b" EXISTS"))),
    "imap: no answer to APPEND": Case(
        "imap", (client(b"APPEND"), server(b"+ "), server(b"\r\n")), grows=copied
    ),
    "smtp: DATA": Case("smtp", (client(b"DATA\r\n"),), is_unknown=True),
    "smtp: in the middle of a mail": Case(
        "smtp", (server(b"354 "), client()), then=200, is_unknown=True
    ),
    "smtp: the final dot": Case("smtp", (client(FINAL_DOT),), is_unknown=True),
    "smtp: no answer to the final dot": Case(
        "smtp", (client(FINAL_DOT),), grows=received, is_unknown=True
    ),
    "amqp: no confirmation": Case(
        "amqp", (ROUTED,), grows=rows("ticketing.mail"), whose=b"router relay"
    ),
    "amqp: a confirmation": Case("amqp", (ROUTED, server(ACK)), whose=b"router relay"),
    "amqp: in an acknowledgement": Case("amqp", (client(ACK),), then=4, whose=b"\x00ticketing\x00"),
    "postgresql: no answer to COMMIT of the ledger": lost_commit(
        "fetcher", "mail.received", "fetcher.arrivals"
    ),
    "postgresql: no answer to COMMIT of a handler": lost_commit(
        "router", "mail.routed.central", "router.placement"
    ),
    "postgresql: no answer to COMMIT before DATA": lost_commit(
        "sender", "2.1.5 Ok", "sender.attempts", is_unknown=True
    ),
    "postgresql: no answer to COMMIT of an outcome": lost_commit(
        "sender", "mail.sent", "sender.copies"
    ),
}
ALWAYS = {
    "imap: no answer to APPEND",
    "smtp: no answer to the final dot",
    "amqp: no confirmation",
    "postgresql: no answer to COMMIT of the ledger",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[] if name in ALWAYS else pytest.mark.matrix)
        for name, case in CASES.items()
    ],
)
async def test_cut_there_each_mail_is_one_ticket_and_each_answer_leaves_once_or_is_unknown(
    own: OwnServers, healed: Firm, opened: list[Dialogue], mails: int, case: Case
) -> None:
    firm, line = healed, getattr(own, case.line)
    async with older_ticket(firm, opened) as older:
        post, since = await mixed(firm, older, mails), logged(firm)
        if case.grows is None:
            sprung = line.cut_after(*case.said, then=case.then, whose=case.whose)
        else:
            before = await case.grows(firm, post)
            sprung = line.swallow_answer(*case.said, whose=case.whose)
        await firm.gets(*post.messages)
        await until(sprung.is_set, within=IN_PLAIN_VIEW)
        if case.grows is not None:
            await grown(case.grows, firm, post, before)
            line.reset()
        there = await check(firm, post, older)
        answers = {answer.id for one in post.customers for answer in there.inboxes[one.address]}
        assert bool(answers & set(there.doubtful)) == case.is_unknown
    assert not [name for name, process in firm.processes.items() if process.guard.ended]
    assert not faults_of_ours(firm, since)


async def grown(count: Count, firm: Firm, post: Post, before: int) -> None:
    async def has_grown() -> bool:
        return await count(firm, post) > before

    await until(has_grown, within=IN_PLAIN_VIEW)
