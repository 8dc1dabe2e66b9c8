"""Each service is killed at each of its steps: every mail becomes one ticket, and every
acknowledgement leaves once or is shown as unknown."""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from tests.faults.firm import Firm
from tests.faults.looking import id_of, seen, ticket_numbers, until_nothing_moves
from tests.faults.model import Mail, violations

ROOT = Path(__file__).parents[2]
MINUTE = timedelta(minutes=1)

KILLS = [
    ("fetcher", "fetcher.objects_written"),
    ("fetcher", "fetcher.ledger_committed"),
    ("fetcher", "relay.published"),
    ("router", "handler.done"),
    ("router", "handler.committed"),
    ("router", "relay.moved"),
    ("ticketing", "handler.done"),
    ("ticketing", "handler.committed"),
    ("ticketing", "relay.published"),
    ("sender", "sender.sending_committed"),
    ("sender", "sender.data_answered"),
    ("sender", "sender.outcome_committed"),
    ("sender", "sender.copy_appended"),
    ("sender", "sender.copy_committed"),
]
UNKNOWN = {"sender.sending_committed": 1, "sender.data_answered": 2}
"""Where nobody knows afterwards whether a mail left, and how often it arrives in the end."""
BESIDE_SENDING = {"sender.copy_appended", "sender.copy_committed"}
"""One mail is filed while another may be between those two."""


@dataclass
class Dialogue:
    """A ticket that was there before, to which a reply comes in each case."""

    customer: Person
    number: int
    acknowledgement: EmailMessage
    mails: list[Mail]


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
    running.start_missing()
    if not opened:
        opened.append(await open_ticket(running))
    return opened[0]


async def open_ticket(firm: Firm) -> Dialogue:
    customer = firm.customer()
    message = question(customer, firm.service)
    await firm.gets(message)
    await until_nothing_moves(firm, [id_of(message)])
    (number,) = await ticket_numbers(firm)
    (acknowledgement,) = firm.folder(customer)
    return Dialogue(customer, number, acknowledgement, [opens(message)])


def question(customer: Person, *to: Person) -> EmailMessage:
    """One mail to one or more of our addresses."""
    addresses = [person.address for person in to]
    return mail_programs.write(customer, addresses, "A question", "Where is my parcel?\n")


def opens(message: EmailMessage) -> Mail:
    return Mail(id_of(message), writer_of(message))


def joins(message: EmailMessage, older: Dialogue) -> Mail:
    return Mail(id_of(message), writer_of(message), joins=older.mails[0].id)


def writer_of(message: EmailMessage) -> str:
    return str(message["From"].addresses[0].addr_spec)


@pytest.mark.parametrize(("service", "crashpoint"), KILLS)
async def test_killed_there_each_mail_is_one_ticket_and_each_answer_leaves_once_or_is_unknown(
    firm: Firm, older: Dialogue, service: str, crashpoint: str
) -> None:
    before = await ticket_numbers(firm)
    firm.end(service)
    anna, bert = firm.customer(), firm.customer()
    questions = [question(anna, firm.service), question(bert, firm.service, firm.sales)]
    reply = mail_programs.reply(older.customer, older.acknowledgement, "Any news?\n")
    mails = [opens(each) for each in questions]
    older.mails.append(joins(reply, older))
    await firm.gets(*questions, reply)
    firm.start(service, crashpoint)
    await firm.is_killed(service)
    firm.pass_time(MINUTE)
    firm.start(service)
    await until_nothing_moves(firm, [mail.id for mail in [*older.mails, *mails]])
    tickets = await ticket_numbers(firm) - before | {older.number}
    there = await seen(firm, tickets, [anna, bert, older.customer])
    assert violations([*older.mails, *mails], there) == []
    answers = [answer.id for inbox in there.inboxes.values() for answer in inbox]
    unknown = [answer for answer in answers if answer in there.doubtful]
    if crashpoint not in BESIDE_SENDING:
        assert len(unknown) == UNKNOWN.get(crashpoint, 0)
    for answer in set(unknown):
        assert "unknown" in await steps(firm, answer)


async def steps(firm: Firm, message_id: str) -> list[str]:
    traced = await firm.asks("trace", message_id, "--json")
    return [json.loads(line)["what"] for line in traced.splitlines()]


def test_every_crashpoint_of_the_code_is_one_where_something_is_killed() -> None:
    named = sorted(crashpoints())
    assert named == sorted(set(named)), "a name leads to one place"
    assert set(named) == {crashpoint for _, crashpoint in KILLS}


def crashpoints() -> Iterator[str]:
    """The names of all crashpoints in the code; each must stand there literally."""
    for part in ("services", "shared"):
        for file in sorted((ROOT / part).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Name("crashpoint"), args=[ast.Constant(str(name))]):
                        yield name
                    case ast.Call(func=ast.Name("crashpoint")):
                        pytest.fail(f"{file}:{node.lineno}: the name of a crashpoint is a literal")
