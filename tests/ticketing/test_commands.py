"""`mailroom ticket …` and `mailroom ticket-queue …`, as a person calls them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest
from click.testing import CliRunner
from pydantic_core import Url
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import database as databases
from mailroom import objects
from mailroom.cli import mailroom
from mailroom.contracts import FieldError, MailFailed, MailRejected, MailSend
from mailroom_directory import store as directory
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.service import record_outcome
from mailroom_ticketing.tags import sign
from tests.installation import Database
from tests.ticketing.bench import Bench, came
from tests.ticketing.desk import (
    ACCOUNT,
    CUSTOMER,
    NOON,
    RING,
    STRANGER,
    answer,
    mail,
)


@dataclass(frozen=True)
class Called:
    """What a command did."""

    code: int
    out: str
    error: str


Call = Callable[..., Any]


@pytest.fixture
def call(desks: Database, key_file: Path, bench: Bench) -> Call:
    """`await call("ticket", "show", "1", stdin=…)`, in a thread: it runs a loop of its own."""
    environment = {
        "MAILROOM_OBJECTS": bench.resources.common.objects,
        "MAILROOM_TICKETING_DATABASE_URL": desks.url("ticketing"),
        "MAILROOM_TICKETING_BROKER_URL": "amqp://ticketing@127.0.0.1/none",
        "MAILROOM_TICKETING_TAG_KEYS_FILE": str(key_file),
        "MAILROOM_TICKETING_INSTALLATION": RING.installation,
    }

    async def called(*arguments: str, stdin: str | bytes = "") -> Called:
        runner = CliRunner(env=environment)
        result = await asyncio.to_thread(runner.invoke, mailroom, arguments, input=stdin)
        return Called(result.exit_code, result.stdout, result.stderr)

    return called


@pytest.fixture
async def more_mailboxes(desks: Database) -> None:
    """A central one that feeds nothing, and a private one."""
    user = {"id": directory_id("kim"), "name": "kim", "display_name": "Kim"}
    spare = {"id": directory_id("spare"), "name": "spare", "kind": "central", "owner_id": None}
    own = {"id": directory_id("own"), "name": "own", "kind": "private", "owner_id": user["id"]}
    async with changing(desks) as tx:
        await tx.execute(insert(directory.users), {**user, "created_at": NOON})
        rows = [{**each, "created_at": NOON} for each in (spare, own)]
        await tx.execute(insert(directory.mailboxes), rows)


@asynccontextmanager
async def changing(desks: Database) -> AsyncIterator[AsyncConnection]:
    """The directory, as its owner changes it."""
    made = databases.engine(Url(desks.url("directory")), "test", connections=1)
    async with made.begin() as tx:
        yield tx
    await made.dispose()


async def enable(desks: Database, *, enabled: bool) -> None:
    async with changing(desks) as tx:
        await tx.execute(update(directory.accounts).values(enabled=enabled))


async def without_server(desks: Database) -> None:
    async with changing(desks) as tx:
        await tx.execute(delete(directory.servers))


def directory_id(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


async def outbox(bench: Bench) -> list[MailSend]:
    rows = await bench.rows("SELECT body FROM ticketing.outbox ORDER BY id")
    return [MailSend.model_validate_json(body) for (body,) in rows]


async def test_a_ticket_queue_is_added_shown_changed_and_removed(
    call: Call, more_mailboxes: None
) -> None:
    added = await call(
        *("ticket-queue", "add", "Returns", "--mailbox", "spare", "--account", "service"),
        *("--language", "de", "--silent"),
    )
    assert (added.code, added.out) == (0, "ticket queue Returns added\n")
    shown = await call("ticket-queue", "show", "returns", "--json")
    assert json.loads(shown.out) == {
        "name": "Returns",
        "mailboxes": ["spare"],
        "account": "service",
        "language": "de",
        "acknowledge": False,
    }
    changed = await call(
        *("ticket-queue", "change", "Returns", "--name", "RMA", "--drop-mailbox", "spare"),
        *("--language", "en", "--acknowledge"),
    )
    assert changed.code == 0
    assert "RMA      -          service  en        yes" in (await call("ticket-queue", "list")).out
    assert (await call("ticket-queue", "remove", "RMA")).code == 0
    assert "RMA" not in (await call("ticket-queue", "list")).out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("show", "None"), "NAME 'None': there is no such ticket queue"),
        (("change", "None", "--language", "de"), "NAME 'None': there is no such ticket queue"),
        (("remove", "None"), "NAME 'None': there is no such ticket queue"),
        (("add", "X", "--account", "none"), "--account 'none': there is no such account"),
        (("add", "X"), "Missing option '--account'"),
        (("add", "sales", "--account", "service"), "NAME 'sales': this ticket queue is there"),
        (("add", " ", "--account", "service"), "NAME ' ': give 1 to 100 printable characters"),
        (
            ("add", "X", "--account", "service", "--language", "fr"),
            "Invalid value for '--language'",
        ),
        (
            ("add", "X", "--account", "service", "--mailbox", "none"),
            "--mailbox 'none': there is no such mailbox",
        ),
        (
            ("add", "X", "--account", "service", "--mailbox", "own"),
            "--mailbox 'own': is private; only a central mailbox feeds a ticket queue",
        ),
        (
            ("change", "Sales", "--add-mailbox", "service"),
            "--add-mailbox 'service': feeds the ticket queue Service already",
        ),
        (
            ("change", "Sales", "--drop-mailbox", "service"),
            "--drop-mailbox 'service': does not feed the ticket queue Sales",
        ),
        (("change", "Sales", "--name", "SERVICE"), "--name 'SERVICE': this ticket queue is there"),
    ],
)
async def test_a_mistake_about_ticket_queues_is_one_line_and_exit_code_2(
    call: Call, more_mailboxes: None, arguments: tuple[str, ...], line: str
) -> None:
    refused = await call("ticket-queue", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert line in refused.error


async def test_an_account_without_a_server_for_sending_is_refused(
    call: Call, desks: Database
) -> None:
    await without_server(desks)
    refused = await call("ticket-queue", "add", "X", "--account", "service")
    assert refused.code == 2
    assert "--account 'service': this account cannot send" in refused.error


async def test_a_ticket_queue_with_tickets_is_not_removed(
    call: Call, bench: Bench, more_mailboxes: None
) -> None:
    await bench.bring(mail())
    refused = await call("ticket-queue", "remove", "Service")
    assert refused.code == 2
    assert "NAME 'Service': has 1 tickets" in refused.error


async def test_tickets_are_listed_by_queue_and_state(call: Call, bench: Bench) -> None:
    await bench.bring(mail(), mail(STRANGER, subject="Hello\x1b[2J\nthere"))
    await call("ticket", "close", "1")
    lines = (await call("ticket", "list", "--json")).out.splitlines()
    assert [(row["number"], row["state"]) for row in map(json.loads, lines)] == [
        (2, "new"),
        (1, "closed"),
    ]
    listed = (await call("ticket", "list", "--state", "new", "--queue", "service")).out
    assert STRANGER in listed
    assert CUSTOMER not in listed
    assert "\x1b" not in listed
    assert (await call("ticket", "list", "--queue", "Sales")).out == "none\n"


async def test_a_closed_ticket_is_opened_again_by_the_customers_mail(
    call: Call, bench: Bench
) -> None:
    first = mail()
    await bench.bring(first)
    assert (await call("ticket", "close", "1")).out == "ticket 1 closed\n"
    assert (await call("ticket", "close", sign(RING, 1))).out == "ticket 1 was closed before\n"
    await bench.bring(mail(answers=first))
    assert await bench.rows("SELECT state FROM ticketing.ticket") == [("open",)]


async def test_a_reply_goes_to_the_customer_and_answers_the_newest_mail(
    call: Call, bench: Bench
) -> None:
    first = mail()
    newest = mail(answers=first)
    await bench.bring(first)
    await bench.bring(newest, answer(answers=first))
    done = await call("ticket", "reply", "1", "--cc", "help@supplier.example", stdin="Unplug it.\n")
    assert done.code == 0
    assert f"ticket 1: reply will be sent to {CUSTOMER}, help@supplier.example" in done.out
    (send,) = await outbox(bench)
    assert (send.text, send.auto, send.account) == ("Unplug it.\n", "none", str(ACCOUNT))
    assert (send.tag, send.subject) == (sign(RING, 1), "Re: Printer on fire")
    assert send.answers is not None
    assert send.answers.mail == newest.id
    assert send.answers.references == newest.references


async def test_a_second_press_sends_once(call: Call, bench: Bench, tmp_path: Path) -> None:
    first = mail()
    await bench.bring(first)
    file = tmp_path / "text"
    file.write_text("Unplug it.")
    for said in ("will be sent", "was asked for before"):
        assert said in (await call("ticket", "reply", "1", "--file", str(file))).out
    assert len(await outbox(bench)) == 1
    await bench.bring(mail(answers=first))
    assert "will be sent" in (await call("ticket", "reply", "1", "--file", str(file))).out


async def test_a_key_that_was_used_for_another_reply_is_refused(call: Call, bench: Bench) -> None:
    await bench.bring(mail())
    await call("ticket", "reply", "1", "--key", "k", stdin="one")
    refused = await call("ticket", "reply", "1", "--key", "k", stdin="two")
    assert refused.code == 2
    assert "--key 'reply:k': was used for another reply" in refused.error
    assert len(await outbox(bench)) == 1


def rejected(send: MailSend) -> MailRejected:
    errors = (FieldError(field="account", value="service", remedy="is disabled"),)
    return MailRejected(
        publisher="ticketing", idempotency_key=send.idempotency_key, event_id=None, errors=errors
    )


async def test_a_reply_that_was_rejected_is_asked_for_again(call: Call, bench: Bench) -> None:
    """The sender takes a key again that it rejected."""
    await bench.bring(mail())
    await call("ticket", "reply", "1", stdin="Unplug it.")
    (first,) = await outbox(bench)
    await bench.handle(record_outcome, came(rejected(first), "sender"))
    again = await call("ticket", "reply", "1", stdin="Unplug it.")
    assert "will be sent to" in again.out
    assert [each.idempotency_key for each in await outbox(bench)] == [first.idempotency_key] * 2
    await bench.sent(first)
    assert "was asked for before" in (await call("ticket", "reply", "1", stdin="Unplug it.")).out
    assert len(await outbox(bench)) == 2


async def test_a_reply_that_failed_is_refused_with_the_reason_until_it_has_another_key(
    call: Call, bench: Bench
) -> None:
    await bench.bring(mail())
    await call("ticket", "reply", "1", stdin="Unplug it.")
    (first,) = await outbox(bench)
    failed = MailFailed(
        publisher="ticketing",
        idempotency_key=first.idempotency_key,
        mail=uuid4(),
        account=ACCOUNT,
        message_id="reply@acme.example",
        reason="refused",
        smtp_reply="550 no such user",
    )
    await bench.handle(record_outcome, came(failed, "sender"))
    refused = await call("ticket", "reply", "1", stdin="Unplug it.")
    assert (refused.code, refused.out) == (2, "")
    assert f"--key '{first.idempotency_key}': failed: the server refused it (550" in refused.error
    assert "to send it all the same, give another with --key" in refused.error
    assert len(await outbox(bench)) == 1
    again = await call("ticket", "reply", "1", "--key", "again", stdin="Unplug it.")
    assert "will be sent to" in again.out
    assert len(await outbox(bench)) == 2


async def test_from_an_account_that_cannot_send_nothing_is_asked_for(
    call: Call, bench: Bench, desks: Database
) -> None:
    await bench.bring(mail())
    await enable(desks, enabled=False)
    refused = await call("ticket", "reply", "1", stdin="text")
    assert refused.code == 2
    assert "account 'service of Service': is disabled; `mailroom account change" in refused.error
    await enable(desks, enabled=True)
    await without_server(desks)
    refused = await call("ticket", "reply", "1", stdin="text")
    assert refused.code == 2
    assert "account 'service of Service': cannot send; `mailroom account change" in refused.error
    assert await outbox(bench) == []


@pytest.mark.parametrize(
    ("arguments", "stdin", "line"),
    [
        (("show", "7"), "", "NUMBER '7': there is no such ticket"),
        (("show", "seven"), "", "NUMBER 'seven': there is no such ticket"),
        (("close", "99999999999999999999"), "", "NUMBER '99999999999999999999': there is no such"),
        (("reply", "7"), "text", "NUMBER '7': there is no such ticket"),
        (("reply", "1"), " \n", "text ' \\n': standard input is empty; nothing was sent"),
        (("reply", "1"), b"\xff\xfe", "text 'standard input': is not UTF-8 at byte 0"),
        (("reply", "1", "--file", "/nowhere"), "", "--file '/nowhere': cannot be read: No such"),
        (("reply", "1", "--cc", "kim"), "text", "--cc 'kim': is no address"),
        (("reply", "1", "--cc", "a@b\nBcc: x@y"), "text", "is no address"),
        (("reply", "1", "--key", ""), "text", "--key '': give 1 to 100 characters"),
        (("reply", "1"), "x" * 300_000, "has over 262144 characters"),
        (("list", "--queue", "None"), "", "--queue 'None': there is no such ticket queue"),
        (("list", "--state", "lost"), "", "Invalid value for '--state'"),
    ],
)
async def test_a_mistake_about_tickets_is_one_line_and_exit_code_2(
    call: Call, bench: Bench, arguments: tuple[str, ...], stdin: str | bytes, line: str
) -> None:
    await bench.bring(mail())
    refused = await call("ticket", *arguments, stdin=stdin)
    assert (refused.code, refused.out) == (2, "")
    assert line in refused.error
    assert await outbox(bench) == []


async def test_a_ticket_without_a_customers_address_cannot_be_answered(
    call: Call, bench: Bench
) -> None:
    await bench.bring(mail(author=None, customer=None))
    refused = await call("ticket", "reply", "1", stdin="text")
    assert refused.code == 2
    assert "customer '': ticket 1 has no address to answer to" in refused.error


async def stored(bench: Bench, sought: TicketMail, text: str) -> TicketMail:
    raw = f"From: {CUSTOMER}\r\nSubject: x\r\n\r\n{text}\r\n".encode()
    return replace(sought, raw=await objects.put(bench.resources.objects, raw))


async def test_show_prints_the_whole_dialogue_with_reasons_outcomes_and_suggestions(
    call: Call, bench: Bench
) -> None:
    first = await stored(bench, mail(), "It burns.\x1b[2J")
    sends = await bench.bring(first)
    await bench.sent(*sends)
    await bench.bring(await stored(bench, mail(answers=first), "Still."))
    await bench.bring(await stored(bench, mail(STRANGER, subject="Re: [#1] me too"), "Me too."))
    await call("ticket", "reply", "1", stdin="Unplug it.")
    (reply,) = await outbox(bench)
    await bench.handle(record_outcome, came(rejected(reply), "sender"))
    shown = await call("ticket", "show", "1")
    assert shown.code == 0
    assert "| It burns.·[2J" in shown.out
    assert "it belongs to no ticket that was there" in shown.out
    assert f"it answers {first.message_id}, and {CUSTOMER} takes part" in shown.out
    assert f"sent 2026-03-02 12:00:00: to {CUSTOMER} (250 2.0.0 Ok: queued)" in shown.out
    assert "(acknowledgement)" in shown.out
    assert "not left: the sender was asked for it" in shown.out
    assert "| Unplug it." in shown.out
    assert "its subject has the number [#1] without a signature" in shown.out
    assert "of ticket 2 may belong here" in shown.out
    assert "may belong to ticket 1" in (await call("ticket", "show", "2")).out


async def test_show_as_json_tells_the_same(call: Call, bench: Bench) -> None:
    first = await stored(bench, mail(), "It burns.")
    await bench.bring(first)
    for number in ("1", "#1", sign(RING, 1)):
        told = json.loads((await call("ticket", "show", number, "--json")).out)
        assert (told["number"], told["tag"], told["queue"]) == (1, sign(RING, 1), "Service")
    entry, asked = told["dialogue"]
    assert (entry["text"].strip(), entry["rule"], entry["mail"]) == (
        "It burns.",
        "opened",
        str(first.id),
    )
    assert (asked["kind"], asked["told"]) == ("acknowledgement", [])


async def test_a_mail_whose_bytes_are_missing_is_shown_without_its_text(
    call: Call, bench: Bench
) -> None:
    await bench.bring(mail())
    shown = await call("ticket", "show", "1")
    assert shown.code == 0
    assert "object 0000" in shown.out
    assert "is missing" in shown.out
