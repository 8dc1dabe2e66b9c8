"""Two machines that answer each other come to rest within three mails, whatever one of them says
of itself, and thirty other mails are dealt with beside them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from smtplib import SMTP
from uuid import uuid4

import pytest

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import id_of, ticket_numbers, until_nothing_moves
from tests.faults.mails import check, mixed, open_ticket
from tests.faults.model import Mail
from tests.waiting import until

HOURS = timedelta(hours=2)
"""Later than the hour in which one address is answered once."""
MOST = 3

Answer = Callable[[Person, EmailMessage, int], EmailMessage]
"""What a machine answers: for whom, to what, and the how-manieth it is."""


@dataclass
class Responder:
    """A customer's server that answers each mail by itself."""

    firm: Firm
    person: Person
    answer: Answer
    null_path: bool = False
    answered: int = 0
    answers: list[EmailMessage] = field(default_factory=list)

    async def plays(self, limit: int) -> list[EmailMessage]:
        """Answer what comes until nothing comes any more, `limit` mails at most; what came."""
        came: list[EmailMessage] = []
        while new := self.firm.folder(self.person)[self.answered :]:
            came += new
            assert len(came) <= limit, [str(each["Subject"]) for each in came]
            for each in new:
                self.answered += 1
                self.answers.append(self.answer(self.person, each, self.answered))
                await self._send(self.answers[-1])
            await until_nothing_moves(self.firm, [id_of(each) for each in self.answers])
        return came

    async def _send(self, message: EmailMessage) -> None:
        to = message["To"].addresses[0].addr_spec
        ours = next(p for p in (self.firm.service, self.firm.sales) if p.address == to)
        there = len(mail_programs.uids(self.firm.it.servers, ours))
        sender = "" if self.null_path else message["From"].addresses[0].addr_spec
        with SMTP("localhost", self.firm.it.servers.postfix.smtp, timeout=30) as smtp:
            smtp.sendmail(sender, [to], message.as_bytes())
        await until(
            lambda: len(mail_programs.uids(self.firm.it.servers, ours)) > there, within=PATIENCE
        )


def says_so(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """RFC 3834, in full."""
    message = mail_programs.reply(person, to, "I am a machine.\n")
    message["Auto-Submitted"] = "auto-replied"
    return message


def says_nothing(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """No header tells what it is, nor what it answers."""
    us = str(to["From"].addresses[0].addr_spec)
    return mail_programs.write(person, [us], "Thank you for your mail", "We are on it.\n")


def changes(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """As before, each time with another subject and from another address."""
    name, _, domain = person.address.partition("@")
    another = Person(person.name, f"{name}+{uuid4().hex[:8]}@{domain}")
    message = says_nothing(another, to, number)
    message.replace_header("Subject", f"Request {number:04} was opened")
    return message


def answers_to_itself(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """A person's From, and a Reply-To that changes."""
    message = says_nothing(person, to, number)
    name, _, domain = person.address.partition("@")
    message["Reply-To"] = f"{name}+case{number}@{domain}"
    message.replace_header("Subject", f"Case {number}")
    return message


def bounces(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """RFC 3464, from a server that took the mail first."""
    message = _from_the_daemon(person, to)
    headers = "".join(f"{name}: {value}\n" for name, value in to.items())
    parts = {
        "text/plain": "It could not be delivered.\n",
        "message/delivery-status": "Reporting-MTA: dns; mx.customer.test\n\n"
        f"Final-Recipient: rfc822; {person.address}\nAction: failed\nStatus: 5.1.1\n",
        "text/rfc822-headers": headers,
    }
    message["Content-Type"] = 'multipart/report; report-type=delivery-status; boundary="="'
    message["MIME-Version"] = "1.0"
    texts = (f"--=\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts.items())
    message.set_payload("".join(texts) + "--=--\n")
    return message


def bounces_in_words(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """As servers did before RFC 3464, and some still do: all of it in plain words."""
    message = _from_the_daemon(person, to)
    message.set_content(f"Hi. I'm afraid I wasn't able to deliver your message.\n\n{to}")
    return message


def _from_the_daemon(person: Person, to: EmailMessage) -> EmailMessage:
    domain = person.address.partition("@")[2]
    us = str(to["From"].addresses[0].addr_spec)
    daemon = Person("Mail Delivery System", f"MAILER-DAEMON@{domain}")
    message = mail_programs.write(daemon, [us], "Undelivered Mail Returned to Sender", "")
    for name in ("Content-Type", "Content-Transfer-Encoding", "MIME-Version"):
        del message[name]
    return message


def is_on_holiday(person: Person, to: EmailMessage, number: int) -> EmailMessage:
    """vacation(1), and Exchange for people outside."""
    message = mail_programs.reply(person, to, "I am back on Monday.\n")
    message.replace_header("Subject", f"Automatic reply: {to['Subject']}")
    message["Precedence"] = "bulk"
    return message


REFERRING = (says_so, is_on_holiday, bounces)
"""They say what they answer, and so join its ticket; the others open one of their own."""
FROM_NOBODY = (bounces, bounces_in_words)


@pytest.fixture(scope="module")
def running(firm: Firm) -> Iterator[Firm]:
    """The firm of all cases; each brings mails and customers of its own."""
    firm.start_missing()
    yield firm
    firm.kill_all()


def responder(firm: Firm, answer: Answer) -> Responder:
    return Responder(firm, firm.customer(), answer, null_path=answer in FROM_NOBODY)


@pytest.mark.parametrize(
    "answer",
    [
        changes,
        *(
            pytest.param(each, marks=pytest.mark.matrix)
            for each in (
                says_so,
                says_nothing,
                answers_to_itself,
                bounces,
                bounces_in_words,
                is_on_holiday,
            )
        ),
    ],
)
async def test_a_machine_that_answers_each_mail_gets_one_of_ours(
    running: Firm, mails: int, answer: Answer
) -> None:
    older = await open_ticket(running)
    post = await mixed(running, older, mails)
    machine = responder(running, answer)
    post.customers.append(machine.person)
    question = post.add(_question(machine.person, running.service), machine.person)
    await running.gets(*post.messages)
    await until_nothing_moves(running, [id_of(question)])
    came = await machine.plays(limit=MOST)
    running.pass_time(HOURS)
    assert [id_of(each, "In-Reply-To") for each in came] == [id_of(question)]
    joins = id_of(question) if answer in REFERRING else None
    for each in machine.answers:
        mail = Mail(id_of(each), machine.person.address, joins=joins, is_acknowledged=False)
        post.mails.append(mail)
    await check(running, post, older)


@pytest.mark.parametrize(
    "answer",
    [
        changes,
        *(pytest.param(each, marks=pytest.mark.matrix) for each in (says_so, says_nothing)),
    ],
)
async def test_an_agents_answer_that_meets_a_machine_ends_within_three_mails(
    running: Firm, answer: Answer
) -> None:
    """The last acknowledgement is hours ago: what does not say that it is a machine gets one."""
    older = await open_ticket(running)
    machine = Responder(running, older.customer, answer, answered=1)
    running.pass_time(HOURS)
    reply = ("ticket", "reply", str(older.number))
    await asyncio.to_thread(running.does, *reply, text="It is under way.\n")
    await until_nothing_moves(running, [])
    ours, *acknowledgements = await machine.plays(limit=MOST)
    assert ours["Auto-Submitted"] is None
    assert len(acknowledgements) + len(machine.answers) <= MOST
    if answer is says_so:
        assert (len(acknowledgements), len(machine.answers)) == (0, 1)
    running.pass_time(timedelta(minutes=59))
    await until_nothing_moves(running, [])
    assert len(running.folder(machine.person)) == machine.answered


def _question(customer: Person, to: Person) -> EmailMessage:
    return mail_programs.write(customer, [to.address], "Where is it?", "My parcel.\n")


@pytest.mark.matrix
async def test_two_ticket_queues_of_one_firm_do_not_acknowledge_each_other(new_firm: Firm) -> None:
    """Sales writes to service, and a customer to both; each queue would acknowledge by itself."""
    firm = new_firm
    await firm.asks("ticket-queue", "change", "Service", "--drop-mailbox", firm.sales.name)
    sales = ("--mailbox", firm.sales.name, "--account", firm.sales.name)
    await firm.asks("ticket-queue", "add", "Sales", *sales)
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    colleague = _question(firm.sales, firm.service)
    asks_for_an_answer_to_sales = _question(firm.customer(), firm.service)
    name, _, domain = firm.sales.address.partition("@")
    asks_for_an_answer_to_sales["Reply-To"] = f"{name}+case@{domain}"
    mail_programs.submit(firm.it.servers, firm.sales, colleague)
    await until(lambda: len(firm.uids(firm.service)) == 2, within=PATIENCE)
    await firm.gets(*post.messages, asks_for_an_answer_to_sales)
    for each in (colleague, asks_for_an_answer_to_sales):
        post.mails.append(Mail(id_of(each), firm.sales.address, is_acknowledged=False))
    there = await check(firm, post, older)
    assert len(there.tickets) == len({mail.first for mail in [*older.mails, *post.mails]})
    senders = {str(each["From"].addresses[0].addr_spec) for each in firm.folder(firm.sales)}
    assert firm.service.address not in senders


@pytest.mark.matrix
async def test_two_installations_that_write_to_each_other_do_not_acknowledge_the_acknowledgement(
    running: Firm, new_firm: Firm
) -> None:
    here, there = running, new_firm
    there.start_missing()
    older = await open_ticket(here)
    post = await mixed(here, older)
    question = _question(there.service, here.service)
    before = len(here.uids(here.service))
    mail_programs.submit(there.it.servers, there.service, question)
    await until(lambda: len(here.uids(here.service)) > before, within=PATIENCE)
    await here.gets(*post.messages)
    post.customers.append(there.service)
    post.mails.append(Mail(id_of(question), there.service.address))
    await check(here, post, older)
    (acknowledgement,) = there.folder(there.service)
    await until_nothing_moves(there, [id_of(acknowledgement)])
    assert len(await ticket_numbers(there)) == 1
    assert len(there.folder(there.service, "Sent")) == 1
    await check(here, post, older)
