"""Filing copies of what was sent in the account's Sent folder, over a kept IMAP connection.

Invariant: a copy that failed never sends again, and is not appended twice: where an APPEND may have
been made before, the folder is searched for the mail first, and nothing is appended but while the
lease is held. So those of a batch are recorded together, once it is over; what is recorded late, by
one who has lost the lease, is true all the same, and told once.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import Counter

from mailroom import clock, directory, imap, objects, tls
from mailroom.contracts import MAIL_HEADER
from mailroom.crashpoints import crashpoint
from mailroom.directory import Account, Server
from mailroom.messaging import outbox
from mailroom.messaging.failures import database_is_away, describe
from mailroom.messaging.presence import begin
from mailroom.messaging.stopping import end_if_cancelled
from mailroom.service import Resources
from mailroom_sender import copies, schedule
from mailroom_sender.copies import Copy, Place
from mailroom_sender.leases import Lease, LeaseLost, attend, fence, rest, while_held, woken
from mailroom_sender.logins import NoLogin, login, rest_after
from mailroom_sender.settings import SenderSettings

log = structlog.get_logger("mailroom.sender.filing")

BATCH = 20
GATHER = 0.2
"""Seconds of rest behind a batch that was not full: so that mails which leave one by one are filed
by the handful, with a few statements for all."""

FILED = Counter("mailroom_sender_filed_total", "copies that lie in a Sent folder")
UNFILED = Counter("mailroom_sender_unfiled_total", "copies that were given up")

Resource = Resources[SenderSettings]


@dataclass
class _Link:
    """An account's kept connection, and the folder to file in."""

    context: ssl.SSLContext
    connection: imap.Connection | None = None
    server: Server | None = None
    folder: str = ""
    resting: bool = False
    """The server cannot be reached, and is left alone for a while."""


async def file_copies(resources: Resource) -> None:
    """File what is due, for each account on one replica at a time, for ever."""
    await attend(resources, "file", file_for_account)


async def file_for_account(resources: Resource, lease: Lease) -> None:
    """File what is due, until nothing has been for `idle_seconds`."""
    link = _Link(tls.client_context(resources.common.tls_ca_file))
    try:
        while True:
            end_if_cancelled()
            async with begin(resources.engine) as tx:
                batch = await copies.due(tx, lease.account, clock.now(), BATCH)
                if batch:
                    account = await directory.account_with_passwords(tx, lease.account)
                    await fence(tx, lease)
                    await copies.begin(tx, batch)
            if batch:
                crashpoint("sender.copies_begun")
                await _file_batch(resources, lease, account, batch, link)
                if link.resting:
                    return
                if len(batch) < BATCH:
                    await asyncio.sleep(GATHER)
            elif not await woken(lease, resources.settings.idle_seconds):
                return
    finally:
        await _disconnect(link)


async def _file_batch(
    resources: Resource,
    lease: Lease,
    account: Account | None,
    batch: Sequence[Copy],
    link: _Link,
) -> None:
    if account is None or account.imap is None:
        why = "the account was removed" if account is None else "the account has no IMAP server"
        await _put_off(resources, batch, why, give_up=True)
        return
    filed: list[tuple[Copy, Place]] = []
    try:
        await _append_all(resources, lease, account, batch, link, filed)
    finally:
        # Also when it ended halfway: what lies there need not be looked for.
        await _record(resources, filed)


async def _append_all(
    resources: Resource,
    lease: Lease,
    account: Account,
    batch: Sequence[Copy],
    link: _Link,
    filed: list[tuple[Copy, Place]],
) -> None:
    """Append one after another; `filed` grows by each that lies there. Raises LeaseLost."""
    for number, copy in enumerate(batch):
        end_if_cancelled()
        try:
            async with while_held(lease):
                place = await _file(resources, account, copy, link)
        except (imap.CommandRefused, objects.ObjectFault) as fault:
            await _put_off(resources, [copy], str(fault))
        except (imap.ImapFailure, NoLogin) as failed:
            # It would meet the others too.
            log.warning("server_unreachable", account=account.name, problem=str(failed))
            await _rest(resources, lease, link, failed)
            await _put_off(resources, batch[number:], str(failed))
            return
        except Exception as failed:
            if isinstance(failed, LeaseLost) or database_is_away(failed):
                raise
            # A copy that breaks us must not stop those behind it.
            log.exception("copy_broke_us", mail=str(copy.mail), error=describe(failed))
            await _put_off(resources, [copy], describe(failed))
        else:
            crashpoint("sender.copy_appended")
            if place is None:
                await _put_off(resources, [copy], "the server has not filed it yet")
            else:
                filed.append((copy, place))


async def _file(resources: Resource, account: Account, copy: Copy, link: _Link) -> Place | None:
    """Where the copy lies; None where the server is to file it and has not yet."""
    connection = await _connect(resources, account, link)
    if copy.tries > 0 or account.sent == "server":
        found = await _find(connection, link.folder, copy)
        if found is not None or account.sent == "server":
            return found
    mail = await objects.get(resources.objects, copy.raw_sha256)
    try:
        appended = await imap.append(connection, link.folder, mail, date=copy.sent_at)
    except imap.FolderMissing:
        await imap.create_folder(connection, link.folder)
        crashpoint("sender.folder_created")
        appended = await imap.append(connection, link.folder, mail, date=copy.sent_at)
    return (link.folder, *(appended or (None, None)))


async def _find(connection: imap.Connection, folder: str, copy: Copy) -> Place | None:
    """By our header, which a relay leaves alone, else by Message-ID.

    Raises FolderMissing if the folder is there and cannot be opened: the copy may lie in it.
    """
    try:
        opened = await imap.examine(connection, folder)
    except imap.FolderMissing:
        if folder in {one.name for one in await imap.list_folders(connection)}:
            raise
        return None
    uids = await imap.search_header(connection, MAIL_HEADER, str(copy.mail))
    uids = uids or await imap.search_header(connection, "Message-ID", copy.message_id)
    return (folder, opened.uidvalidity, uids[0]) if uids else None


async def _connect(resources: Resource, account: Account, link: _Link) -> imap.Connection:
    if link.connection and link.connection.failure is None and link.server == account.imap:
        return link.connection
    await _disconnect(link)
    if not account.enabled or account.imap is None:
        raise NoLogin(f"account {account.name} is disabled")
    link.connection = await imap.connect(login(resources.settings, account.imap), link.context)
    link.server = account.imap
    folders = await imap.list_folders(link.connection)
    link.folder = imap.sent_folder(folders, account.sent_folder)
    return link.connection


async def _disconnect(link: _Link) -> None:
    connection, link.connection = link.connection, None
    if connection is not None:
        await imap.logout(connection)


async def _record(resources: Resource, filed: Sequence[tuple[Copy, Place]]) -> None:
    if not filed:
        return
    async with begin(resources.engine) as tx:
        told = await copies.filed(tx, filed, clock.now())
        await outbox.add(tx, resources.messaging, told)
    crashpoint("sender.copies_committed")
    FILED.inc(len(filed))
    for copy, (folder, _, uid) in filed:
        log.info("mail_filed", mail=str(copy.mail), folder=folder, uid=uid)


async def _rest(
    resources: Resource, lease: Lease, link: _Link, failed: imap.ImapFailure | NoLogin
) -> None:
    link.resting = True
    refused = isinstance(failed, imap.LoginRefused)
    async with begin(resources.engine) as tx:
        await rest(tx, lease, clock.now() + rest_after(refused=refused))


async def _put_off(
    resources: Resource, batch: Sequence[Copy], problem: str, *, give_up: bool = False
) -> None:
    now, settings = clock.now(), resources.settings
    patience = timedelta(days=settings.filing_days)
    async with begin(resources.engine) as tx:
        for copy in sorted(batch, key=lambda copy: copy.mail):
            end = now if give_up else copy.created_at + patience
            again = schedule.next_try(copy.tries + 1, now, settings.pauses, end)
            await copies.put_off(tx, copy, again, problem, now)
            if again is None:
                UNFILED.inc()
                log.warning("copy_given_up", mail=str(copy.mail), problem=problem)
    crashpoint("sender.copies_put_off")
