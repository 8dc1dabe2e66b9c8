"""Each service is killed at each of its steps, with thirty mails on their way: every mail becomes
one ticket, and every acknowledgement leaves once or is shown as unknown."""

import ast
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.firm import Firm
from tests.faults.mails import Dialogue, check, mixed, open_ticket

ROOT = Path(__file__).parents[2]
MINUTE = timedelta(minutes=1)

RELAY = ["relay.claimed", "relay.confirmed", "relay.confirmed#5", "relay.published", "relay.moved"]
HANDLER = ["handler.ids_taken", "handler.done", "handler.committed"]
KILLS = {
    "fetcher": [
        "fetcher.replica_told",
        "fetcher.accounts_claimed",
        "objects.written",
        "objects.written#20",
        "objects.renamed#10",
        "fetcher.objects_written",
        "fetcher.ledger_written",
        "fetcher.ledger_committed",
        "fetcher.ledger_committed#2",
        "fetcher.reconciled",
        *RELAY,
    ],
    "router": [
        "objects.written#10",
        "objects.renamed",
        *(f"{name}@router.mail.received" for name in HANDLER),
        "intake.taken@router.mail.received#2",
        "handler.done@router.mail.received#2",
        *(f"{name}@router.mail.sent" for name in HANDLER),
        "prune.days_dropped",
        *RELAY,
    ],
    "ticketing": [
        *(f"{name}@ticketing.mail.routed" for name in HANDLER),
        "intake.taken@ticketing.mail.routed#2",
        "handler.committed@ticketing.mail.routed#2",
        *(f"{name}@ticketing.mail.sent" for name in HANDLER),
        "handler.committed@ticketing.mail.filed",
        *RELAY,
    ],
    "sender": [
        *(f"{name}@sender.mail.routed" for name in HANDLER),
        "objects.written",
        "objects.renamed#5",
        *(f"{name}@sender.mail.send" for name in HANDLER),
        "intake.taken@sender.mail.send#2",
        "handler.committed@sender.mail.send#2",
        "sender.lease_taken@send",
        "sender.server_heard",
        "sender.mail_answered",
        "sender.recipients_answered",
        "sender.recipients_answered#5",
        "sender.sending_committed",
        "sender.sending_committed#7",
        "sender.data_answered",
        "sender.data_answered#7",
        "sender.outcome_committed",
        "sender.outcome_committed#7",
        "sender.lease_taken@file",
        "sender.copies_begun",
        "sender.copy_appended",
        "sender.copy_appended#3",
        "sender.copies_committed",
        *RELAY,
    ],
}
ALWAYS = {
    ("ticketing", "handler.committed@ticketing.mail.routed"),
    ("ticketing", "relay.published"),
    ("sender", "sender.data_answered"),
}
"""Killed behind a commit and before its ack; behind a publication; behind an SMTP server's answer.
The fetcher, by test_one_mail.py."""

NOBODY_KNOWS = ("sender.sending_committed", "sender.data_answered")
"""Between the two commits around DATA."""
BEFORE_DATA = ("lease_taken@send", "server_heard", "mail_answered", "recipients_answered")


def cases() -> Iterator[Any]:
    for service, places in KILLS.items():
        for place in places:
            always = (service, place) in ALWAYS
            yield pytest.param(service, place, marks=[] if always else pytest.mark.matrix)


@pytest.fixture(scope="module")
def running(firm: Firm) -> Iterator[Firm]:
    """The firm of all cases; each brings mails and customers of its own."""
    yield firm
    firm.kill_all()


@pytest.fixture(scope="session")
def opened() -> list[Dialogue]:
    """What the first case has opened."""
    return []


@pytest.fixture
async def older(running: Firm, opened: list[Dialogue]) -> Dialogue:
    """A ticket that was there before, to which replies come in each case."""
    running.start_missing()
    if not opened:
        opened.append(await open_ticket(running))
    return opened[0]


@pytest.mark.parametrize(("service", "crashpoint"), list(cases()))
async def test_killed_there_each_mail_is_one_ticket_and_each_answer_leaves_once_or_is_unknown(
    firm: Firm, older: Dialogue, mails: int, service: str, crashpoint: str
) -> None:
    firm.end(service)
    post = await mixed(firm, older, mails)
    await firm.gets(*post.messages)
    firm.start(service, crashpoint)
    await firm.is_killed(service)
    firm.pass_time(MINUTE)
    firm.start(service)
    there = await check(firm, post, older)
    answers = {answer.id for inbox in there.inboxes.values() for answer in inbox}
    unknown = {mail: tries for mail, tries in there.doubtful.items() if mail in answers}
    assert list(unknown.values()) in may_be_unknown(service, crashpoint)
    for mail in unknown:
        assert "unknown" in await steps(firm, mail)


def may_be_unknown(service: str, crashpoint: str) -> list[list[int]]:
    """Of how many mails, and how many tries each, nobody can know what became."""
    if crashpoint.startswith(NOBODY_KNOWS):
        return [[1]]
    if service != "sender" or crashpoint.startswith(BEFORE_DATA):
        return [[]]
    # Whatever else the sender was killed at, it may have been sending at the same time.
    return [[], [1]]


async def steps(firm: Firm, message_id: str) -> list[str]:
    traced = await firm.asks("trace", message_id, "--json")
    return [json.loads(line)["what"] for line in traced.splitlines()]


def test_every_crashpoint_of_the_code_is_one_where_something_is_killed() -> None:
    named = sorted(crashpoints())
    assert named == sorted(set(named)), "a name leads to one place"
    words = {word for file in ROOT.glob("tests/*/test_kills.py") for word in strings(file)}
    assert set(named) - words == set()


def crashpoints() -> Iterator[str]:
    """The names of all crashpoints in the code; each must stand there literally."""
    for part in ("services", "shared"):
        for file in sorted((ROOT / part).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Name("crashpoint"), args=[ast.Constant(str(name)), *_]):
                        yield name
                    case ast.Call(func=ast.Name("crashpoint")):
                        pytest.fail(f"{file}:{node.lineno}: the name of a crashpoint is a literal")


def strings(file: Path) -> Iterator[str]:
    """The crashpoints that a test names, whichever queue and time it means."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition("#")[0].partition("@")[0]
