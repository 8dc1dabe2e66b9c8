"""An account that is new to us and years old: all its mails are kept, and nobody is answered."""

import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from imaplib import Time2Internaldate

import pytest
from pydantic_core import Url
from sqlalchemy import func, select

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from mailroom import database
from mailroom_router.store import placement
from mailroom_sender.tables import requests
from mailroom_ticketing.store import mail
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import id_of, ticket_numbers, until_nothing_moves
from tests.faults.mails import check, mixed, open_ticket
from tests.faults.model import Mail
from tests.local.mail import logged_in
from tests.waiting import until

OF_A_CUSTOMER = 10
"""Old mails: questions, and a colleague's answers to them, one after the other."""


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.matrix)])
async def test_old_mails_of_a_new_account_open_nothing_and_later_ones_find_them(
    new_firm: Firm, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    firm = new_firm
    dialogues = [_old_dialogue(firm, years=1 + at % 9) for at in range(count // OF_A_CUSTOMER)]
    for at, folder in enumerate(("INBOX", "Sent")):
        _lay(firm, folder, [old for dialogue in dialogues for old in dialogue[at::2]])
    began = time.monotonic()
    firm.start_missing()
    await until(lambda: _are_kept(firm, count), within=PATIENCE)
    with capsys.disabled():
        print(f"{count} old mails are kept after {time.monotonic() - began:.1f} s, start and all")
    await until_nothing_moves(firm, [])
    assert await ticket_numbers(firm) == set()
    assert await _number_of(firm, requests) == 0
    assert len(firm.folder(firm.sales, "Sent")) == count // 2

    older = await open_ticket(firm)
    post = await mixed(firm, older)
    # A customer answers our last answer, one answers his own first question, and a third writes of
    # something else. With the first two comes all that was written before.
    for dialogue, answered in zip(dialogues[:3], (-1, 0, None), strict=True):
        customer = _writer(dialogue)
        post.customers.append(customer)
        new = mail_programs.write(customer, [firm.sales.address], "Once more", "And now?\n")
        post.add(new, customer)
        if answered is None:
            continue
        old = dialogue[answered]
        new["In-Reply-To"] = old["Message-ID"]
        new["References"] = f"{old['References'] or ''} {old['Message-ID']}".strip()
        post.mails += [Mail(id_of(each), customer.address, joins=id_of(new)) for each in dialogue]
    # A colleague answers an old question now, by his own mail program: that opens nothing.
    late = mail_programs.reply(firm.sales, dialogues[3][0], "Sorry, only now.\n")
    mail_programs.submit(firm.it.servers, firm.sales, late)
    await firm.gets(*post.messages)
    there = await check(firm, post, older)
    assert there.doubtful == {}
    (got,) = firm.folder(_writer(dialogues[3]))
    assert id_of(got) == id_of(late)
    for dialogue in dialogues[4:10]:
        assert firm.folder(_writer(dialogue)) == []


def _old_dialogue(firm: Firm, years: int) -> list[EmailMessage]:
    """Questions and answers in turn, each an answer to the one before."""
    customer, when = firm.customer(), datetime.now(UTC) - timedelta(days=365 * years)
    written = [mail_programs.write(customer, [firm.sales.address], "Long ago", "Where is it?\n")]
    for number in range(1, OF_A_CUSTOMER):
        writer = firm.sales if number % 2 else customer
        message = mail_programs.reply(writer, written[-1], f"Number {number}.\n")
        written.append(message)
    for number, message in enumerate(written):
        message.replace_header("Date", format_datetime(when + timedelta(hours=number)))
    return written


def _writer(dialogue: list[EmailMessage]) -> Person:
    address = dialogue[0]["From"].addresses[0]
    return Person(address.display_name, address.addr_spec, "secret")


def _lay(firm: Firm, folder: str, messages: list[EmailMessage]) -> None:
    """As they came, years ago."""
    person = firm.sales
    with logged_in(firm.it.servers, person.address, person.password) as imap:
        for message in messages:
            when = Time2Internaldate(message["Date"].datetime)
            assert imap.append(folder, r"(\Seen)", when, message.as_bytes())[0] == "OK"


async def _are_kept(firm: Firm, count: int) -> bool:
    """Whether router and ticketing know all of them."""
    return [await _number_of(firm, table) for table in (placement, mail)] == [count, count]


async def _number_of(firm: Firm, table: object) -> int:
    engine = database.engine(Url(firm.database.superuser_url), "backfill", connections=1)
    async with engine.connect() as tx:
        found = await tx.scalar(select(func.count()).select_from(table))  # type: ignore[arg-type]
    await engine.dispose()
    return found or 0
