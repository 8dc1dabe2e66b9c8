"""Objects lose their bytes: they are had again where a mail server has them, and none but the right
ones are ever sent."""

import asyncio
import imaplib
import json
import ssl
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from pydantic_core import Url
from sqlalchemy import Select, Update, select, update

from deploy.local import guarded, mail_programs
from deploy.local.mail_programs import Person
from mailroom import database
from mailroom.cli import mailroom
from mailroom_fetcher.store import arrivals
from mailroom_router.store import placement
from mailroom_sender.tables import copies, requests
from tests.core.test_objects import DAMAGES, one_bit_of
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import ticket_numbers
from tests.faults.mails import _question as question
from tests.faults.mails import check, mixed, open_ticket
from tests.waiting import until

HOUR = timedelta(hours=1)


async def test_what_is_damaged_before_it_is_read_is_brought_again_and_each_mail_is_one_ticket(
    new_firm: Firm,
) -> None:
    firm = new_firm
    firm.start_missing()
    older = await open_ticket(firm)
    firm.end("router")
    post = await mixed(firm, older, count=12)
    before = set(await raws(firm))
    await firm.gets(*post.messages)
    await until(lambda: all_fetched(firm), within=PATIENCE)
    new = set(await raws(firm)) - before
    for damage, file in zip(cycle(DAMAGES), sorted(new), strict=False):
        damage(file)
    firm.start("router")
    assert (await check(firm, post, older)).doubtful == {}
    aside = {each.name.partition(".")[0] for each in (objects_of(firm) / "damaged").iterdir()}
    assert aside == {each.name for each in sorted(new) if each.name in aside}
    assert len(aside) == len(new) - sum(1 for at in range(len(new)) if at % len(DAMAGES) == 3)
    said = (firm.processes["router"].guard.folder / guarded.LOG).read_text()
    for words in ("is corrupt, its 0 bytes", "is missing", "cannot be read, Is a directory"):
        assert words in said


async def test_a_mail_that_no_server_has_any_more_is_parked_and_handled_when_it_is_restored(
    new_firm: Firm,
) -> None:
    firm = new_firm
    firm.start("fetcher")
    customer = firm.customer()
    await firm.gets(question(customer, [firm.service]))
    await until(lambda: all_fetched(firm), within=PATIENCE)
    (file,) = await raws(firm)
    backup = file.read_bytes()
    one_bit_of(file)
    remove_all(firm, firm.service)
    firm.start_missing()

    async def parked() -> Any:
        firm.pass_time(HOUR)
        listed = await firm.asks("parked", "list", "--service", "router", "--json")
        return [json.loads(line) for line in listed.splitlines()]

    (row,) = await until(parked, within=2 * PATIENCE)
    assert row["reason"].startswith(f"tried 12 times: object {file.name} is corrupt")
    assert "restore it from a backup" in row["reason"]
    assert file.exists(), "damaged bytes are nobody's to delete"
    file.write_bytes(backup)
    await firm.asks("parked", "replay", row["id"])
    assert len(await until(lambda: ticket_numbers(firm), within=PATIENCE)) == 1
    await until(lambda: len(firm.uids(customer)) == 1, within=PATIENCE)
    assert await firm.asks("parked", "list", "--service", "router") == ""


async def test_a_mail_of_ours_whose_bytes_are_damaged_is_not_sent_until_they_are_restored(
    new_firm: Firm,
) -> None:
    firm = new_firm
    firm.start_missing()
    customer, key = firm.customer(), uuid4().hex
    asked = {
        "idempotency_key": key,
        "account": firm.service.name,
        "to": [{"address": customer.address}],
        "subject": "Your parcel",
        "text": "It is on its way.\n",
        "send_at": (firm.now + HOUR).isoformat(),
    }
    await asyncio.to_thread(firm.does, "send", text=json.dumps(asked))
    (sha256,) = await until(lambda: rows(firm, select(requests.c.raw_sha256)), within=PATIENCE)
    file = objects_of(firm) / sha256[:2] / sha256
    right = file.read_bytes()
    file.write_bytes(right.replace(b"on its way", b"lost, sorry"[:10]))
    firm.pass_time(HOUR)

    async def told() -> str:
        shown = await firm.asks("sent", "list", "--json")
        (mail,) = [json.loads(line)["mail"] for line in shown.splitlines()]
        shown = await firm.asks("sent", "show", mail)
        return shown if f"object {sha256} is corrupt" in shown else ""

    await until(told, within=PATIENCE)
    assert firm.folder(customer) == []
    code, said = await objects_check(firm, "--repair", "--service", "sender")
    assert (code, said[0]) == (
        1,
        f"corrupt    {sha256}  sender: sender cannot make it again: restore a backup",
    )
    file.write_bytes(right)
    firm.pass_time(HOUR)
    await until(lambda: firm.uids(customer), within=PATIENCE)
    (mail,) = firm.folder(customer)
    assert "on its way" in mail.get_content()


@pytest.mark.matrix
async def test_a_copy_whose_bytes_are_damaged_is_not_filed_and_its_mail_not_sent_again(
    new_firm: Firm,
) -> None:
    firm = new_firm
    firm.start_missing()
    customer = firm.customer()
    await firm.gets(question(customer, [firm.service]))
    await until(lambda: firm.folder(firm.service, "Sent"), within=PATIENCE)
    firm.end("sender")
    (sha256,) = await rows(firm, select(requests.c.raw_sha256))
    remove_all(firm, firm.service, "Sent")
    due = {"state": "due", "due": firm.now, "tries": 0, "folder": None, "uid": None}
    await change(firm, update(copies).values(due))
    one_bit_of(objects_of(firm) / sha256[:2] / sha256)
    firm.start("sender")

    async def told() -> bool:
        problems = await rows(firm, select(copies.c.problem))
        return f"object {sha256} is corrupt" in problems[0]

    await until(told, within=PATIENCE)
    assert firm.folder(firm.service, "Sent") == []
    assert len(firm.uids(customer)) == 1


async def test_an_operator_finds_what_is_damaged_and_has_it_brought_or_made_again(
    firm: Firm,
) -> None:
    firm.start_missing()
    await open_ticket(firm)
    await until(lambda: firm.folder(firm.service, "Sent"), within=PATIENCE)
    await firm.asks("account", "fetch", firm.service.name)
    await until(lambda: all_fetched(firm), within=PATIENCE)
    code, said = await objects_check(firm)
    assert (code, said[-1].endswith(" objects checked, 0 damaged")) == (0, True)
    sent = (await rows(firm, select(requests.c.raw_sha256)))[0]
    asked = (await rows(firm, select(arrivals.c.sha256).where(arrivals.c.sha256 != sent)))[0]
    read = (await rows(firm, select(placement.c.parsed)))[0]
    right = {sha256: file_of(firm, sha256).read_bytes() for sha256 in (sent, asked, read)}
    for sha256 in right:
        one_bit_of(file_of(firm, sha256))
    code, said = await objects_check(firm)
    assert code == 1
    assert sorted(line.split() for line in said[:-1]) == sorted(
        ["corrupt", sha256, "router" if sha256 == read else "fetcher"] for sha256 in right
    )
    assert said[-1].endswith(" objects checked, 3 damaged")
    code, said = await objects_check(firm, "--repair")
    repairs = {line.split()[1]: line.partition(": ")[2] for line in said[:-1]}
    from_the_account = f"asked for again from {firm.service.name}"
    assert (repairs[asked], repairs[sent]) == (from_the_account, from_the_account)
    # Where its mail has not been brought again yet, it is not made again yet.
    assert repairs[read].removeprefix("not ").startswith("made again")

    async def mended() -> bool:
        await objects_check(firm, "--repair")
        return (await objects_check(firm))[0] == 0

    await until(mended, within=PATIENCE)
    assert {sha256: file_of(firm, sha256).read_bytes() for sha256 in right} == right


async def objects_check(firm: Firm, *options: str) -> tuple[int, list[str]]:
    runner = CliRunner(env=firm.it.environment)
    words = ("objects", "check", *options)
    done = await asyncio.to_thread(runner.invoke, mailroom, words)
    return done.exit_code, done.stdout.splitlines()


def file_of(firm: Firm, sha256: str) -> Path:
    return objects_of(firm) / sha256[:2] / sha256


def objects_of(firm: Firm) -> Path:
    return Path(firm.it.environment["MAILROOM_OBJECTS"])


async def raws(firm: Firm) -> list[Path]:
    """Where the bytes of fetched mails lie."""
    hashes = await rows(firm, select(arrivals.c.sha256).distinct())
    return [objects_of(firm) / sha256[:2] / sha256 for sha256 in hashes]


async def all_fetched(firm: Firm) -> bool:
    lie = [mail_programs.uids(firm.it.servers, each) for each in (firm.service, firm.sales)]
    sent = mail_programs.uids(firm.it.servers, firm.service, "Sent")
    return len(await rows(firm, select(arrivals.c.uid))) >= sum(map(len, lie)) + len(sent)


async def rows(firm: Firm, query: Select[Any]) -> list[Any]:
    engine = database.engine(Url(firm.database.superuser_url), "test", connections=1)
    async with engine.connect() as tx:
        found = list(await tx.scalars(query))
    await engine.dispose()
    return found


async def change(firm: Firm, statement: Update) -> None:
    engine = database.engine(Url(firm.database.superuser_url), "test", connections=1)
    async with engine.begin() as tx:
        await tx.execute(statement)
    await engine.dispose()


def remove_all(firm: Firm, owner: Person, folder: str = "INBOX") -> None:
    """As a person's own mail program does."""
    servers = firm.it.servers
    context = ssl.create_default_context(cafile=servers.ca_file)
    port = servers.dovecot.imaps
    with imaplib.IMAP4_SSL("localhost", port, timeout=30, ssl_context=context) as imap:
        imap.login(owner.address, owner.password)
        imap.select(folder)
        imap.store("1:*", "+FLAGS", "(\\Deleted)")
        imap.expunge()
