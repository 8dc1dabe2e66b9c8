"""One account, for as long as this replica holds it: connect, look, reconcile, wait, again.

Invariant: nothing that a mail server does ends this but the loss of the lease. A failure is told in
a person's words and tried again, later and later; a kept connection that died is replaced at once.
Who wants the account fetched cuts one pause short, and no other.
"""

import asyncio
import random
import ssl
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from mailroom import clock, directory, imap, waiting
from mailroom.crashpoints import crashpoint
from mailroom.directory import Account, UnsealKeys
from mailroom.messaging import outbox
from mailroom.messaging.failures import database_is_away, describe
from mailroom.messaging.presence import begin
from mailroom.service import Resources
from mailroom_fetcher import leases, observing, store
from mailroom_fetcher.bringing import Bringer
from mailroom_fetcher.budget import Budget
from mailroom_fetcher.folders import Watch, folders_of, look, reconcile, watch
from mailroom_fetcher.ledger import ParkedMails
from mailroom_fetcher.schedule import after_failure, heartbeat, next_look
from mailroom_fetcher.settings import FetcherSettings
from mailroom_fetcher.standing import Standing, to_tell, words_for

log = structlog.get_logger("mailroom.fetcher")

PROBLEMS = (imap.ImapFailure, imap.ControlCharacter, directory.PasswordSealed)
"""What is wrong with an account or its server, in a person's words."""
CONNECTING = 20
"""Connections to one server that are being made at a time: two thousand at once would time out."""
KEEP_OPEN = 300.0
"""Seconds: a connection is kept for the next look if that is not later."""
SIGN_OF_LIFE = 1500.0
"""Seconds at most to wait in silence, where a calendar or a long interval has nothing looked at."""


@dataclass(frozen=True)
class Shared:
    """What all accounts of this replica share."""

    resources: Resources[FetcherSettings]
    context: ssl.SSLContext
    keys: UnsealKeys
    budget: Budget
    gates: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(CONNECTING))
    )
    """One for each server: a silent one makes only its own accounts wait."""
    database_answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each turn that PostgreSQL let the supervisor take."""


@dataclass
class Attendance:
    """An account in this replica's hands."""

    shared: Shared
    account: Account
    bringer: Bringer
    wake: asyncio.Event
    """Set: look at once."""
    standing: Standing | None = None
    watches: dict[str, Watch] = field(default_factory=dict)
    idles: bool = True
    """Until the server refuses an IDLE though it has it."""
    failures: int = 0
    """In a row, since all was last looked at and compared."""


async def attend(shared: Shared, account: Account, wake: asyncio.Event) -> None:
    """Attend to an account until cancelled. Raises LeaseLost, and what is no fault of a server."""
    lease = leases.Lease(account.id, shared.resources.replica)
    here = Attendance(shared, account, Bringer(shared.resources, shared.budget, lease), wake)
    async with begin(shared.resources.engine) as tx:
        here.standing = await observing.last_told(tx, account.id)
    while True:
        try:
            due = await _session(here)
            pause = (due - clock.now()).total_seconds()
        except PROBLEMS as problem:
            here.failures += 1
            pause = await _failed(here, problem)
        except Exception as fault:
            if not database_is_away(fault) and not isinstance(fault, leases.LeaseLost):
                await report(here, f"not the server's fault, see the log: {describe(fault)}")
            raise
        await _rest(here, pause)


async def _failed(here: Attendance, problem: Exception) -> float:
    """Tell a failure; how many seconds to wait."""
    refused = isinstance(problem, imap.LoginRefused)
    pause = after_failure(here.failures, random.random(), refused=refused)  # noqa: S311 -- jitter
    log.warning(
        "account_failing",
        account=here.account.name,
        problem=str(problem),
        failures=here.failures,
        again=round(pause, 1),
    )
    lost = isinstance(problem, imap.ConnectionLost | imap.TimedOut)
    if here.failures > 1 or not lost:
        await report(here, str(problem))
    return pause


async def _rest(here: Attendance, seconds: float) -> None:
    """Until then, or until somebody wants it fetched; a calendar's night is no silence."""
    ends = time.monotonic() + seconds
    # A password that no key opens is told without waiting for anything: others have their turn.
    await asyncio.sleep(0)
    while (left := ends - time.monotonic()) > 0 and not here.wake.is_set():
        await waiting.is_set(here.wake, within=min(left, SIGN_OF_LIFE))
        await _show_life(here)
    _heed(here)


def _heed(here: Attendance) -> None:
    """Take a wish to be fetched for heard: what follows is the one try that it is worth."""
    if here.wake.is_set():
        # Perhaps for mails whose bytes were lost.
        here.bringer.parked = True
    here.wake.clear()


async def _show_life(here: Attendance) -> None:
    """Tell once an hour that the account is attended to, as it fared when last looked at."""
    if here.standing is not None:
        await report(here, here.standing.problem)


async def report(here: Attendance, problem: str) -> None:
    """Tell how the account fares, if that is news. Raises LeaseLost."""
    observing.show(here.account.id, here.account.name, "failing" if problem else "ok")
    standing = to_tell(here.standing, problem, clock.now())
    if standing is None:
        return
    resources = here.shared.resources
    async with begin(resources.engine) as tx:
        await leases.hold(tx, here.bringer.lease)
        told = await observing.tell(tx, here.account.id, standing)
        await outbox.add(tx, resources.messaging, [told])
    crashpoint("fetcher.standing_committed")
    here.standing = standing


async def _session(here: Attendance) -> datetime:
    """One connection, for as long as it is worth keeping; when to look next."""
    server = here.account.imap
    if server is None:
        raise ValueError(f"account {here.account.name} has no IMAP server")
    login = imap.Login(
        server.host,
        server.port,
        server.tls,
        server.user,
        directory.unseal(server, here.shared.keys),
    )
    limit = here.shared.resources.settings.answer_seconds
    async with here.shared.gates[login.endpoint]:
        connection = await imap.connect(login, here.shared.context, limit)
    try:
        while True:
            problems = await _look_everywhere(here, connection)
            if here.failures == 0:
                await report(here, words_for(problems, await _parked(here)))
            account = here.account
            due = next_look(clock.now(), account.interval, account.calendar, account.timezone)
            await _reconcile(here, connection, due)
            here.failures = 0
            await report(here, words_for(problems, await _parked(here)))
            if not await _wait(here, connection, due):
                await imap.logout(connection)
                return due
            if problems:
                # A folder that lost its numbers may be refused on this connection for ever, and
                # be there on another.
                await imap.logout(connection)
                return clock.now()
    finally:
        imap.close(connection)


async def _look_everywhere(here: Attendance, connection: imap.Connection) -> list[str]:
    """Look at every folder; what is wrong with some of them."""
    _heed(here)
    listed = await imap.list_folders(connection)
    uses = {folder.name: folder.use for folder in listed}
    problems = []
    folders = folders_of(here.account, listed)
    named = {folder.name for folder in folders}
    here.watches = {name: one for name, one in here.watches.items() if name in named}
    for folder in folders:
        if uses.get(folder.name) == "all":
            problems.append(f"folder {folder.name!r} holds copies of all others: read those")
            continue
        try:
            await _look_at(here, connection, folder)
        except imap.FolderMissing as missing:
            here.watches.pop(folder.name, None)
            problems.append(str(missing))
    return problems


async def _look_at(here: Attendance, connection: imap.Connection, folder: directory.Folder) -> None:
    watched, opened = await _open(here, connection, folder)
    await look(here.bringer, connection, watched, opened)


async def _open(
    here: Attendance, connection: imap.Connection, folder: directory.Folder
) -> tuple[Watch, imap.Opened]:
    opened = await imap.examine(connection, folder.name)
    watched = here.watches.get(folder.name)
    if watched is None or watched.place.uidvalidity != opened.uidvalidity:
        watched = await watch(here.bringer, here.account, folder, opened)
        here.watches[folder.name] = watched
    return watched, opened


async def _parked(here: Attendance) -> ParkedMails | None:
    if not here.bringer.parked:
        return None
    async with begin(here.shared.resources.engine) as tx:
        parked = await store.parked(tx, here.account.id)
    here.bringer.parked = parked is not None
    return parked


async def _reconcile(here: Attendance, connection: imap.Connection, due: datetime) -> None:
    """Fill holes, folder by folder, until all are filled or new mail is to be looked for."""
    for watched in reversed(list(here.watches.values())):
        if not watched.backlog:
            continue
        try:
            watched, _ = await _open(here, connection, watched.folder)  # noqa: PLW2901 -- renumbered
        except imap.FolderMissing:
            # Told by the next look, if it was chosen; a Sent folder by default is forgotten.
            here.watches.pop(watched.folder.name)
            continue
        while watched.backlog and clock.now() < due and not here.wake.is_set():
            await reconcile(here.bringer, connection, watched)


async def _wait(here: Attendance, connection: imap.Connection, due: datetime) -> bool:
    """Wait until the next look is due; False if the connection is not worth keeping so long."""
    inbox = _inbox(here)
    if inbox and here.account.idle and here.idles and imap.can_idle(connection):
        try:
            await _idle(here, connection, inbox, due)
        except imap.CommandRefused as refused:
            log.warning("idle_refused", account=here.account.name, problem=str(refused))
            here.idles = False
        return True
    pause = (due - clock.now()).total_seconds()
    if pause > KEEP_OPEN:
        return False
    await waiting.is_set(here.wake, within=pause)
    return True


def _inbox(here: Attendance) -> directory.Folder | None:
    watched = sorted(here.watches.values(), key=lambda one: one.folder.role == "inbox")
    return watched[-1].folder if watched else None


async def _idle(
    here: Attendance, connection: imap.Connection, inbox: directory.Folder, due: datetime
) -> None:
    """Hear of new mail in the inbox at once, until the other folders are due, too."""
    news = connection.folder != inbox.name or connection.news.is_set()
    while not here.wake.is_set():
        if news:
            await _look_at(here, connection, inbox)
        seconds = (due - clock.now()).total_seconds()
        if seconds <= 0:
            return
        within = min(seconds, SIGN_OF_LIFE)
        news = await imap.idle(connection, within, heartbeat(here.account.interval), here.wake)
        await _show_life(here)
