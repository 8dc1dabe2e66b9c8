"""Folders change under the hands of fetcher and sender: at rest, in mid-work and while they are
down. Every mail that is still there is one ticket, and none is two."""

import asyncio
import imaplib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from signal import SIGSTOP

import pytest
from pydantic_core import Url
from sqlalchemy import select

from deploy.local.mail_programs import Person
from mailroom import database
from mailroom.directory.views import ACCOUNTS
from mailroom_fetcher.store import folders
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import until_nothing_moves
from tests.faults.mails import Post, begun, check, known_as, mixed
from tests.faults.readiness import problem_is_told
from tests.imap.between import Between, between
from tests.local.mail import logged_in
from tests.waiting import until

IN_MID_WORK = "fetcher.objects_written"
PROJECTS = "Projects"
ANOTHER = 1_900_000_000
"""A UIDVALIDITY beyond all that Dovecot makes of the time."""


@contextmanager
def program(firm: Firm, person: Person) -> Iterator[imaplib.IMAP4_SSL]:
    """The person's mail program."""
    with logged_in(firm.it.servers, person.address, person.password) as imap:
        yield imap


def put(firm: Firm, person: Person, folder: str, *messages: EmailMessage) -> None:
    with program(firm, person) as imap:
        for message in messages:
            assert imap.append(folder, "", "", message.as_bytes())[0] == "OK"


# The numbering of a folder.


def number_anew(firm: Firm, person: Person, uidvalidity: int) -> None:
    """Another UIDVALIDITY for the inbox; UIDs stay."""
    configuration = firm.it.servers.folder / "dovecot" / "dovecot.conf"
    update = ("mailbox", "update", "--uid-validity", str(uidvalidity))
    subprocess.run(
        ["doveadm", "-c", configuration, *update, "-u", person.address, "INBOX"], check=True
    )


def lose_numbers(firm: Firm, person: Person) -> None:
    """Dovecot loses all that it knows of the inbox but the mails: UIDs are others, too."""
    name, _, domain = person.address.partition("@")
    home = firm.it.servers.folder / "dovecot" / "mail" / domain / name / "Maildir"
    for file in home.glob("dovecot*"):
        file.unlink()


def uidvalidity(firm: Firm, person: Person, folder: str) -> int:
    with program(firm, person) as imap:
        imap.select(folder, readonly=True)
        return int(imap.response("UIDVALIDITY")[1][0] or 0)


async def numbers_are_known(firm: Firm, person: Person, folder: str = "INBOX") -> None:
    """Wait until the fetcher has seen the folder as it is numbered now."""
    now = uidvalidity(firm, person, folder)
    engine = database.engine(Url(firm.database.superuser_url), "folders", connections=1)
    known = (
        select(folders.c.uidvalidity)
        .join(ACCOUNTS, ACCOUNTS.c.id == folders.c.account)
        .where(ACCOUNTS.c.address == person.address, folders.c.name == folder)
    )

    async def seen() -> bool:
        async with engine.connect() as tx:
            return await tx.scalar(known) == now

    try:
        await until(seen, within=PATIENCE)
    finally:
        await engine.dispose()


async def _at_rest(firm: Firm, post: Post, changes: Callable[[], None]) -> None:
    await firm.gets(*post.messages)
    await until_nothing_moves(firm, [mail.id for mail in post.mails])
    changes()


async def _in_mid_work(firm: Firm, post: Post, changes: Callable[[], None]) -> None:
    firm.end("fetcher")
    await firm.gets(*post.messages)
    firm.start("fetcher", IN_MID_WORK, number=SIGSTOP)
    await firm.is_frozen("fetcher")
    changes()
    firm.thaw("fetcher")


async def _while_it_is_down(firm: Firm, post: Post, changes: Callable[[], None]) -> None:
    firm.end("fetcher")
    await firm.gets(*post.messages)
    changes()
    firm.start("fetcher")


async def _twice_in_a_row(firm: Firm, post: Post, changes: Callable[[], None]) -> None:
    half = len(post.messages) // 2
    await firm.gets(*post.messages[:half])
    changes()
    await firm.gets(*post.messages[half:])
    changes()


Moment = Callable[[Firm, Post, Callable[[], None]], Awaitable[None]]
MOMENTS: list[Moment] = [_at_rest, _while_it_is_down, _twice_in_a_row]


@pytest.mark.parametrize("keeps_uids", [False, pytest.param(True, marks=pytest.mark.matrix)])
@pytest.mark.parametrize(
    "moment",
    [_in_mid_work, *(pytest.param(each, marks=pytest.mark.matrix) for each in MOMENTS)],
)
async def test_a_folder_that_is_numbered_anew_brings_no_mail_twice(
    running: Firm, mails: int, moment: Moment, *, keeps_uids: bool
) -> None:
    firm = running
    older, post = await begun(firm, mails)

    def changes() -> None:
        if keeps_uids:
            number_anew(firm, firm.service, max(ANOTHER, _now(firm)) + 1)
        else:
            lose_numbers(firm, firm.service)

    await moment(firm, post, changes)
    await numbers_are_known(firm, firm.service)
    await check(firm, post, older)


def _now(firm: Firm) -> int:
    return uidvalidity(firm, firm.service, "INBOX")


# Mails that are removed or moved.


@asynccontextmanager
async def through_a_middle(firm: Firm) -> AsyncIterator[Between]:
    """Service's account is read through a man in the middle."""
    server = firm.it.servers.dovecot
    async with between(server.host, server.imap) as middle:
        url = f"imap+plain://{firm.service.address}@127.0.0.1:{middle.port}"
        change = ("account", "change", firm.service.name, "--imap", url, "--password-stdin")
        await asyncio.to_thread(firm.does, *change, text=firm.service.password)
        yield middle


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.matrix)])
async def test_mails_that_are_expunged_between_search_and_fetch_stop_no_other(
    new_firm: Firm, mails: int, *, everything: bool
) -> None:
    """Some, or all that came; they are gone as if they had never come."""
    firm = new_firm
    older, post = await begun(firm, mails)
    async with through_a_middle(firm) as middle:
        await until_nothing_moves(firm, [])
        firm.end("fetcher")
        await firm.gets(*post.messages)
        gone = single_mails(post)[:: 1 if everything else 2]
        left = list(gone)

        def rule(line: bytes) -> None:
            if b"UID FETCH" in line and b"BODY" in line and left:
                expunge(firm, firm.service, left)
                left.clear()

        middle.rule = rule
        firm.start("fetcher")
        await until(lambda: not left, within=PATIENCE)
        for written in (post.mails, older.mails):
            written[:] = [mail for mail in written if mail.id not in gone]
        await check(firm, post, older)


def single_mails(post: Post) -> list[str]:
    """Mails that lie in one inbox, and that no other mail is about."""
    joined = {mail.joins for mail in post.mails}
    return [
        mail.id
        for message, mail in zip(post.messages, post.mails, strict=True)
        if mail.id not in joined and len(message["To"].addresses) == 1
    ]


def expunge(firm: Firm, person: Person, mails: Sequence[str]) -> None:
    """Another mail program removes them for good."""
    with program(firm, person) as imap:
        imap.select("INBOX")
        for uid in imap.uid("SEARCH", "ALL")[1][0].decode().split():
            header = imap.uid("FETCH", uid, "(BODY.PEEK[HEADER])")[1][0][1].decode()
            if any(mail in header for mail in mails):
                imap.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        imap.expunge()


@pytest.mark.matrix
async def test_an_inbox_that_is_emptied_before_anything_was_fetched_is_an_empty_inbox(
    running: Firm,
) -> None:
    firm = running
    older, post = await begun(firm)
    lost, _ = await mixed(firm, older), older.mails
    older.mails = [mail for mail in older.mails if mail not in lost.mails]
    firm.end("fetcher")
    await firm.gets(*lost.messages)
    for person in (firm.service, firm.sales):
        with program(firm, person) as imap:
            imap.select("INBOX")
            imap.store("1:*", "+FLAGS", r"(\Deleted)")
            imap.expunge()
    firm.start("fetcher")
    await firm.gets(*post.messages)
    await check(firm, post, older)


async def with_projects(firm: Firm, name: str = PROJECTS) -> None:
    """Service's account reads a folder beside INBOX and Sent."""
    read = ("INBOX=inbox", "Sent=sent", f"{name}=other")
    options = [word for folder in read for word in ("--folder", folder)]
    await firm.asks("account", "change", firm.service.name, *options, "--no-test")


def move(firm: Firm, folder: str, to: str) -> None:
    with program(firm, firm.service) as imap:
        imap.select(folder)
        status, answer = imap.uid("MOVE", "1:*", to)
        assert status == "OK", answer


@pytest.mark.matrix
@pytest.mark.parametrize("moment", [_at_rest, _in_mid_work, _while_it_is_down])
async def test_a_mail_that_is_moved_to_another_folder_stays_one(
    new_firm: Firm, moment: Moment
) -> None:
    firm = new_firm
    with program(firm, firm.service) as imap:
        imap.create(PROJECTS)
    await with_projects(firm)
    older, post = await begun(firm)
    await moment(firm, post, lambda: move(firm, "INBOX", PROJECTS))
    await check(firm, post, older)
    move(firm, PROJECTS, "INBOX")
    await firm.asks("account", "fetch", firm.service.name)
    await check(firm, post, older)


# Folders that are removed, made anew and renamed.


@pytest.mark.matrix
async def test_a_folder_that_is_made_anew_brings_its_new_mails_though_their_uids_were_used(
    new_firm: Firm,
) -> None:
    firm = new_firm
    with program(firm, firm.service) as imap:
        imap.create(PROJECTS)
    await with_projects(firm)
    older, post = await begun(firm)
    half = len(post.messages) // 2
    put(firm, firm.service, PROJECTS, *post.messages[:half])
    await firm.asks("account", "fetch", firm.service.name)
    await until_nothing_moves(firm, [known_as(each) for each in post.messages[:half]])
    with program(firm, firm.service) as imap:
        imap.delete(PROJECTS)
        imap.create(PROJECTS)
    put(firm, firm.service, PROJECTS, *post.messages[half:])
    await numbers_are_known(firm, firm.service, PROJECTS)
    await check(firm, post, older)


@pytest.mark.matrix
async def test_a_renamed_folder_is_told_as_missing_and_read_under_its_new_name(
    new_firm: Firm,
) -> None:
    firm = new_firm
    with program(firm, firm.service) as imap:
        imap.create(PROJECTS)
    await with_projects(firm)
    older, post = await begun(firm)
    half = len(post.messages) // 2
    put(firm, firm.service, PROJECTS, *post.messages[:half])
    await firm.asks("account", "fetch", firm.service.name)
    await until_nothing_moves(firm, [known_as(each) for each in post.messages[:half]])
    with program(firm, firm.service) as imap:
        imap.rename(PROJECTS, "Projekte")
    await problem_is_told(firm, PROJECTS)
    put(firm, firm.service, "Projekte", *post.messages[half:])
    await with_projects(firm, "Projekte")
    await problem_is_told(firm, "")
    await check(firm, post, older)


@pytest.mark.parametrize(
    "crashpoint",
    [
        "sender.outcome_committed",
        pytest.param("sender.copies_committed", marks=pytest.mark.matrix),
    ],
)
async def test_a_sent_folder_that_is_deleted_while_copies_are_filed_is_filled_again(
    running: Firm, crashpoint: str
) -> None:
    firm = running
    older, post = await begun(firm)
    firm.end("sender")
    await firm.gets(*post.messages)
    firm.start("sender", crashpoint, number=SIGSTOP)
    await firm.is_frozen("sender")
    filed = firm.folder(firm.service, "Sent")
    with program(firm, firm.service) as imap:
        imap.delete("Sent")
    firm.thaw("sender")
    put(firm, firm.service, "Sent", *filed)
    await numbers_are_known(firm, firm.service, "Sent")
    await check(firm, post, older)
