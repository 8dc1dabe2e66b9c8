"""One look at a folder: what is new there, and what the ledger lacks.

Invariant: new mail is what has a UID from the cursor on, and comes first. Everything below is the
reconciler's: it walks through the folder from its end downwards and fetches what the ledger lacks,
be it a hole, a mailbox that was full before we knew it, or a renumbered folder.
"""

from array import array
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from mailroom import clock, imap
from mailroom.crashpoints import crashpoint
from mailroom.directory import Account, Folder
from mailroom.messaging.presence import begin
from mailroom_fetcher import leases, store
from mailroom_fetcher.batches import newest_first
from mailroom_fetcher.bringing import Bringer, bring
from mailroom_fetcher.ledger import Place

log = structlog.get_logger("mailroom.fetcher")

WINDOW = 1000
"""Mails of the folder that the reconciler compares at a time."""
STEP = 200
"""Mails it fetches before it makes way for new ones."""
RETRIES = 50
"""Parked mails that are asked for again in one look."""


@dataclass
class Watch:
    """A folder as this replica knows it, while it holds the account."""

    folder: Folder
    place: Place
    next_uid: int
    seen: tuple[int | None, int] | None = None
    """UIDNEXT and number of mails after the last look, which found and brought all that was new."""
    reconcile_at: datetime | None = None
    """None: as soon as possible."""
    walk: int = 0
    """The position from which the reconciler goes on downwards; 0 when it is done."""
    holes: "array[int]" = field(default_factory=lambda: array("Q"))
    """UIDs of the last window that the ledger lacks, ascending."""

    @property
    def backlog(self) -> bool:
        """Whether the reconciler has something to do here."""
        return self.walk > 0 or len(self.holes) > 0


def folders_of(account: Account, listed: list[imap.ListedFolder]) -> list[Folder]:
    """The folders to read: the chosen ones, or INBOX and Sent if it is there; inboxes last.

    Last is where IDLE then waits.
    """
    chosen = account.folders
    if not chosen:
        sent = imap.sent_folder(listed, account.sent_folder)
        there = {folder.name for folder in listed}
        chosen = (Folder("INBOX", "inbox"), *([Folder(sent, "sent")] if sent in there else []))
    return sorted(chosen, key=lambda folder: folder.role == "inbox")


async def watch(bringer: Bringer, account: Account, folder: Folder, opened: imap.Opened) -> Watch:
    """Begin to watch an open folder, with what the ledger knows of it."""
    async with begin(bringer.resources.engine) as tx:
        await leases.hold(tx, bringer.lease)
        row = await store.folder(tx, account.id, folder.name)
        place = Place(
            account.id, account.start, row.id, folder.name, folder.role, opened.uidvalidity
        )
        next_uid = row.next_uid
        if row.uidvalidity != opened.uidvalidity:
            next_uid = opened.uidnext or 1
            await store.renumber(tx, place, next_uid)
            log.info(
                "folder_renumbered" if row.uidvalidity else "folder_found",
                account=account.name,
                folder=folder.name,
                uidvalidity=opened.uidvalidity,
                mails=opened.exists,
            )
    crashpoint("fetcher.folder_committed")
    return Watch(folder, place, next_uid)


async def look(
    bringer: Bringer, connection: imap.Connection, watched: Watch, opened: imap.Opened
) -> None:
    """Bring in what is new in the open folder, and see whether the ledger is to be compared.

    Raises ImapFailure, LeaseLost.
    """
    now = clock.now()
    seen = (opened.uidnext, opened.exists)
    if watched.seen is None or opened.uidnext is None or seen != watched.seen:
        uids = await imap.search_uids(connection, watched.next_uid)
        if uids:
            async with begin(bringer.resources.engine) as tx:
                uids = await store.unknown(tx, watched.place, uids)
        await bring(bringer, connection, watched.place, uids, new=True)
        watched.next_uid = max([watched.next_uid, *(uid + 1 for uid in uids)])
        if appeared_late(watched.seen, seen):
            watched.reconcile_at = None
    if watched.reconcile_at is None or watched.reconcile_at <= now:
        watched.walk, watched.holes = opened.exists, array("Q")
        minutes = bringer.resources.settings.reconcile_minutes
        watched.reconcile_at = now + timedelta(minutes=minutes)
    watched.seen = seen
    if bringer.parked:
        await _retry(bringer, connection, watched.place)


def appeared_late(before: tuple[int | None, int] | None, now: tuple[int | None, int]) -> bool:
    """Whether mails appeared though no new UID was given: some came late, below the cursor."""
    return before is not None and now[0] == before[0] and now[1] > before[1]


async def _retry(bringer: Bringer, connection: imap.Connection, place: Place) -> None:
    async with begin(bringer.resources.engine) as tx:
        uids = await store.retries(tx, place, clock.now(), RETRIES)
    if not uids:
        return
    there = await imap.existing(connection, uids)
    if gone := sorted(set(uids) - set(there)):
        async with begin(bringer.resources.engine) as tx:
            await leases.hold(tx, bringer.lease)
            await store.give_up(tx, place, gone)
        crashpoint("fetcher.parked_given_up")
    bringer.suspects |= {(place.folder, place.uidvalidity, uid) for uid in there}
    await bring(bringer, connection, place, there)


async def reconcile(bringer: Bringer, connection: imap.Connection, watched: Watch) -> None:
    """One step of the reconciler in the open folder: the next holes, or the next window.

    Raises ImapFailure, LeaseLost.
    """
    if not watched.holes:
        await _next_window(bringer, connection, watched)
    step = next(newest_first(watched.holes, STEP), [])
    try:
        await bring(bringer, connection, watched.place, step)
    except imap.ImapFailure:
        # Compare this window again: what was brought or parked before it broke is no hole now.
        watched.walk, watched.holes = watched.walk + WINDOW, array("Q")
        raise
    del watched.holes[len(watched.holes) - len(step) :]
    if not watched.backlog:
        async with begin(bringer.resources.engine) as tx:
            await store.reconciled(tx, watched.place, clock.now())
        crashpoint("fetcher.reconciled")


async def _next_window(bringer: Bringer, connection: imap.Connection, watched: Watch) -> None:
    """Compare the next WINDOW mails downwards; expunged ones only move others into it."""
    last = min(watched.walk, connection.exists)
    first = max(1, last - WINDOW + 1)
    uids = await imap.uids_at(connection, first, last) if last > 0 else []
    async with begin(bringer.resources.engine) as tx:
        watched.holes = array("Q", await store.unknown(tx, watched.place, uids))
    watched.walk = first - 1 if last > 0 else 0
