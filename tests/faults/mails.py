"""Mails as customers write them, thirty at a time and of many kinds, and what must come of each.

Invariant: what is expected is written down when a mail is written, by what it is to a person; how
Mailroom gets there is not asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from itertools import cycle, islice
from random import Random
from uuid import uuid4

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import (
    id_of,
    seen,
    ticket_numbers,
    until_delivered,
    until_nothing_moves,
)
from tests.faults.model import Mail, Seen, violations

NO_ID = "without an id "
"""How the subject of a mail without Message-ID begins."""


@dataclass
class Dialogue:
    """A ticket that was there before."""

    customer: Person
    number: int
    acknowledgement: EmailMessage
    mails: list[Mail]
    """All that belong to it by now."""


@dataclass
class Post:
    """Mails to be brought at once."""

    before: set[int]
    """The tickets that were there."""
    messages: list[EmailMessage] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    customers: list[Person] = field(default_factory=list)

    def add(self, message: EmailMessage, writer: Person, **expected: object) -> EmailMessage:
        """A mail, and what to expect of it."""
        self.messages.append(message)
        self.mails.append(Mail(known_as(message), writer.address, **expected))  # type: ignore[arg-type]
        return message

    def extend(self, more: "Post") -> None:
        """Mails that were written later, and are looked at together with these."""
        self.messages += more.messages
        self.mails += more.mails
        self.customers += more.customers


@dataclass(frozen=True)
class _Desk:
    """Where a kind of mail is written."""

    firm: Firm
    older: Dialogue
    post: Post
    random: Random

    def stranger(self) -> Person:
        person = self.firm.customer()
        self.post.customers.append(person)
        return person


async def open_ticket(firm: Firm) -> Dialogue:
    """A dialogue with somebody new: a question, and its acknowledgement."""
    before = await ticket_numbers(firm)
    customer = firm.customer()
    message = _question(customer, [firm.service])
    await firm.gets(message)
    await until_nothing_moves(firm, [known_as(message)])
    (number,) = await ticket_numbers(firm) - before
    (acknowledgement,) = firm.folder(customer)
    return Dialogue(customer, number, acknowledgement, [Mail(known_as(message), customer.address)])


async def mixed(firm: Firm, older: Dialogue, count: int = 30, seed: int = 0) -> Post:
    """So many mails, of each kind its share, in the order of the seed; none is brought yet."""
    desk = _Desk(firm, older, Post(await ticket_numbers(firm)), Random(seed))  # noqa: S311
    kinds = list(islice(cycle(_KINDS), count))
    desk.random.shuffle(kinds)
    for kind in kinds:
        kind(desk)
    older.mails += [mail for mail in desk.post.mails if mail.joins == older.mails[0].id]
    return desk.post


async def begun(firm: Firm, count: int = 30) -> tuple[Dialogue, Post]:
    """All services run, a dialogue is open, and mails are written."""
    firm.start_missing()
    older = await open_ticket(firm)
    return older, await mixed(firm, older, count)


async def check(
    firm: Firm,
    post: Post,
    older: Dialogue,
    parked: Sequence[str] = (),
    within: float = PATIENCE,
) -> Seen:
    """Wait until all is done that these mails cause, and see that it is as it must be.

    `parked` are reasons for which the case means something to be parked.
    """
    rest = [mail for mail in post.mails if mail not in older.mails]
    mails = [*older.mails, *rest]
    await until_nothing_moves(firm, [mail.id for mail in mails], within)
    tickets = await ticket_numbers(firm) - post.before | {older.number}
    customers = [*post.customers, older.customer]
    await until_delivered(firm, customers)
    there = await seen(firm, tickets, customers)
    found = violations(mails, there, parked)
    assert not found, "\n".join(found)
    return there


def known_as(message: EmailMessage) -> str:
    """What tells a mail from the others: its Message-ID, or else its subject."""
    return id_of(message) or str(message["Subject"])


def _question(writer: Person, to: Sequence[Person], text: str = "Where is it?\n") -> EmailMessage:
    addresses = [person.address for person in to]
    return mail_programs.write(writer, addresses, "Where is my parcel?", text)


def _asks(desk: _Desk) -> None:
    writer = desk.stranger()
    desk.post.add(_question(writer, [desk.firm.service]), writer)


def _asks_both(desk: _Desk) -> None:
    """One mail that two accounts bring."""
    writer = desk.stranger()
    desk.post.add(_question(writer, [desk.firm.service, desk.firm.sales]), writer)


def _replies(desk: _Desk) -> None:
    older = desk.older
    message = mail_programs.reply(older.customer, older.acknowledgement, "Any news?\n")
    desk.post.add(message, older.customer, joins=older.mails[0].id)


def _replies_without_headers(desk: _Desk) -> None:
    """By the tag in its subject alone."""
    older = desk.older
    subject = f"AW: AW: {older.acknowledgement['Subject']}"
    message = mail_programs.write(older.customer, [desk.firm.service.address], subject, "And?\n")
    desk.post.add(message, older.customer, joins=older.mails[0].id)


def _asks_and_adds(desk: _Desk) -> None:
    """Two mails of one conversation: which of them comes first is not sure."""
    writer = desk.stranger()
    first = desk.post.add(_question(writer, [desk.firm.service]), writer)
    more = _question(writer, [desk.firm.service], "The number is 4711.\n")
    more["In-Reply-To"] = more["References"] = first["Message-ID"]
    desk.post.add(more, writer, joins=known_as(first))


def _asks_in_html(desk: _Desk) -> None:
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service])
    message.add_alternative("<p>Where <b>is</b> it?</p>" * 1000, subtype="html")
    message.add_attachment(desk.random.randbytes(20_000), "image", "png", filename="Bild ä.png")
    desk.post.add(message, writer)


def _asks_at_length(desk: _Desk) -> None:
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service])
    message.add_attachment(desk.random.randbytes(700_000), "application", "pdf", filename="a.pdf")
    desk.post.add(message, writer)


def _is_away(desk: _Desk) -> None:
    """RFC 3834: nothing automatic answers it."""
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service], "I am away.\n")
    message["Auto-Submitted"] = "auto-replied"
    desk.post.add(message, writer, is_acknowledged=False)


def _writes_to_many(desk: _Desk) -> None:
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service], "News!\n")
    message["Precedence"] = "bulk"
    message["List-Id"] = "<news.customer.test>"
    desk.post.add(message, writer, is_acknowledged=False)


def _asks_without_id(desk: _Desk) -> None:
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service])
    del message["Message-ID"]
    message.replace_header("Subject", f"{NO_ID}{uuid4().hex}")
    desk.post.add(message, writer)


def _guesses(desk: _Desk) -> None:
    """A number that anybody can know, with a signature that nobody but us can make."""
    writer = desk.stranger()
    message = _question(writer, [desk.firm.service])
    message.replace_header("Subject", f"Re: yours [#{desk.older.number}-aaaaa]")
    desk.post.add(message, writer)


_KINDS: list[Callable[[_Desk], None]] = [
    # One of each, for cases that bring few.
    _asks,
    _asks_both,
    _replies,
    _replies_without_headers,
    _asks_and_adds,
    _asks_in_html,
    _asks_at_length,
    _is_away,
    _writes_to_many,
    _asks_without_id,
    _guesses,
    # And what there is more of.
    *[_asks] * 8,
    *[_asks_both] * 2,
    *[_replies] * 2,
    _asks_and_adds,
    *[_asks_in_html] * 2,
    _is_away,
]
