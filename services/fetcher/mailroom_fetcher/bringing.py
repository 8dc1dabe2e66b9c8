"""Brings mails in: from the server into the object store, then into ledger and outbox.

Invariant: bytes are on disk before a row names them, and one transaction holds the lease's lock,
the ledger's rows, the cursor and the events. Whatever fails before its commit is done again; a mail
that the server cannot list or deliver is parked, and stops no other.
"""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from mailroom import clock, imap, objects
from mailroom.crashpoints import crashpoint
from mailroom.imap import Listed
from mailroom.messaging import outbox
from mailroom.messaging.presence import begin
from mailroom.service import Resources
from mailroom_fetcher import leases, store
from mailroom_fetcher.batches import Batch, batches, one_by_one
from mailroom_fetcher.budget import Budget
from mailroom_fetcher.leases import Lease
from mailroom_fetcher.ledger import Arrival, Place, Stored, arrivals, received
from mailroom_fetcher.settings import FetcherSettings

log = structlog.get_logger("mailroom.fetcher")

MAILS = Counter(
    "mailroom_fetcher_mails_total",
    "Mails that ended in the ledger: published, joined (known bytes) or parked.",
    ["state"],
)
BYTES = Counter("mailroom_fetcher_bytes_total", "Bytes of mails written to the object store.")

NOT_LISTED = "the server has this mail, but does not list it"
NOT_DELIVERED = "the server lists this mail, but does not deliver it"


@dataclass
class Bringer:
    """What bringing needs, and what it remembers of mails on which a connection broke."""

    resources: Resources[FetcherSettings]
    budget: Budget
    lease: Lease
    suspects: set[tuple[str, int, int]] = field(default_factory=set)
    """(folder, UIDVALIDITY, UID): asked for alone next time, and parked if it breaks again."""
    parked: bool = True
    """Whether some mail of the account may be parked; true until the ledger was asked."""


async def bring(
    bringer: Bringer,
    connection: imap.Connection,
    place: Place,
    uids: Sequence[int],
    *,
    new: bool = False,
) -> None:
    """Bring these mails (ascending UIDs) of the open folder in; `new` moves the cursor past them.

    UIDs that vanished are passed over. Raises ImapFailure when the connection breaks, LeaseLost.
    """
    for start in range(0, len(uids), imap.LISTED):
        some = uids[start : start + imap.LISTED]
        alone = {uid for uid in some if _key(place, uid) in bringer.suspects}
        listed = await _list(bringer, connection, place, some, alone)
        for batch in batches(listed, alone):
            await _bring_batch(bringer, connection, place, batch, new=new)


def _key(place: Place, uid: int) -> tuple[str, int, int]:
    return place.folder, place.uidvalidity, uid


def _unlisted(uid: int) -> Listed:
    return Listed(uid, size=0, internal_date=None, flags=())


async def _list(
    bringer: Bringer,
    connection: imap.Connection,
    place: Place,
    uids: Sequence[int],
    alone: AbstractSet[int] = frozenset(),
) -> list[Listed]:
    """What the server lists, ascending; what it has and does not list is parked."""
    listed: list[Listed] = []
    refused: dict[int, str] = {}
    together = [uid for uid in uids if uid not in alone]
    for group in (together, *([uid] for uid in sorted(alone))):
        try:
            listed += await _list_apart(connection, group, refused)
        except imap.ImapFailure as broken:
            suspects = [_unlisted(uid) for uid in group]
            await _suspect(bringer, place, suspects, str(broken), alone=group is not together)
            raise
    lacking = sorted(set(uids) - {mail.uid for mail in listed})
    for uid in await imap.existing(connection, lacking):
        await _park(bringer, place, _unlisted(uid), refused.get(uid, NOT_LISTED))
    return sorted(listed, key=lambda mail: mail.uid)


async def _list_apart(
    connection: imap.Connection, uids: Sequence[int], refused: dict[int, str]
) -> list[Listed]:
    """List mails, by halves where the server refuses; its words for a single one: `refused`."""
    try:
        return await imap.list_mails(connection, uids)
    except imap.CommandRefused as problem:
        if len(uids) == 1:
            refused[uids[0]] = str(problem)
            return []
    half = len(uids) // 2
    return [
        *await _list_apart(connection, uids[:half], refused),
        *await _list_apart(connection, uids[half:], refused),
    ]


async def _bring_batch(
    bringer: Bringer, connection: imap.Connection, place: Place, batch: Batch, *, new: bool
) -> None:
    began = time.monotonic()
    async with bringer.budget.of(imap.PIECE if batch.in_pieces else batch.size):
        try:
            stored = await _store(bringer, connection, batch)
        except imap.CommandRefused as refused:
            if batch.in_pieces:
                await _park(bringer, place, batch.mails[0], str(refused))
                return
            stored = []
        except imap.ImapFailure as broken:
            await _suspect(bringer, place, batch.mails, str(broken), alone=batch.in_pieces)
            raise
    await _record(bringer, place, stored, batch if new else None, began)
    await _bring_undelivered(bringer, connection, place, batch, stored, new=new)


async def _store(bringer: Bringer, connection: imap.Connection, batch: Batch) -> list[Stored]:
    """Fetch and store; mails that the server did not deliver are missing."""
    object_store = bringer.resources.objects
    if batch.in_pieces:
        mail = batch.mails[0]
        try:
            pieces = imap.fetch_pieces(connection, mail.uid, mail.size)
            return [Stored(mail, await objects.put_stream(object_store, pieces))]
        except imap.MailGone:
            return []
    bodies = await imap.fetch_bodies(connection, batch.uids, batch.size)
    refs = await objects.put_many(object_store, list(bodies.values()))
    by_uid = dict(zip(bodies, refs, strict=True))
    return [Stored(mail, by_uid[mail.uid]) for mail in batch.mails if mail.uid in by_uid]


async def _record(
    bringer: Bringer, place: Place, stored: Sequence[Stored], new: Batch | None, began: float
) -> None:
    """The transaction: lease, ledger, cursor, outbox."""
    crashpoint("fetcher.objects_written")
    hashes = [one.raw.sha256 for one in stored]
    async with begin(bringer.resources.engine) as tx:
        await leases.hold(tx, bringer.lease)
        known = await store.same_bytes(tx, place, hashes)
        rows = arrivals(place, stored, known, clock.now())
        recorded = await store.record(tx, place, rows)
        if new is not None:
            await store.move_cursor(tx, place, new.mails[-1].uid + 1)
        published = [received(place, row) for row in recorded if row.state == "published"]
        await outbox.add(tx, bringer.resources.messaging, published)
        crashpoint("fetcher.ledger_written")
    crashpoint("fetcher.ledger_committed")
    _tell(place, recorded, began)


def _tell(place: Place, recorded: Sequence[Arrival], began: float) -> None:
    if not recorded:
        return
    published = sum(row.state == "published" for row in recorded)
    size = sum(row.raw.size for row in recorded if row.raw)
    MAILS.labels("published").inc(published)
    MAILS.labels("joined").inc(len(recorded) - published)
    BYTES.inc(size)
    log.info(
        "mails_received",
        account=str(place.account),
        folder=place.folder,
        uidvalidity=place.uidvalidity,
        uids=[recorded[0].uid, recorded[-1].uid],
        published=published,
        joined=len(recorded) - published,
        bytes=size,
        seconds=round(time.monotonic() - began, 3),
    )


async def _bring_undelivered(
    bringer: Bringer,
    connection: imap.Connection,
    place: Place,
    batch: Batch,
    stored: Sequence[Stored],
    *,
    new: bool,
) -> None:
    """Mails that the answer lacked: gone, or to be asked for alone, or parked."""
    delivered = {one.mail.uid for one in stored}
    bringer.suspects -= {_key(place, uid) for uid in delivered}
    lacking = [uid for uid in batch.uids if uid not in delivered]
    if not lacking:
        return
    still_there = Batch(tuple(await _list(bringer, connection, place, lacking)))
    if batch.in_pieces and still_there.mails:
        await _park(bringer, place, still_there.mails[0], NOT_DELIVERED)
        return
    for single in one_by_one(still_there):
        await _bring_batch(bringer, connection, place, single, new=new)


async def _suspect(
    bringer: Bringer, place: Place, mails: Sequence[Listed], problem: str, *, alone: bool
) -> None:
    """A connection broke on these mails. One of them may be why; or none, the first time."""
    keys = {_key(place, mail.uid) for mail in mails}
    if alone and keys <= bringer.suspects:
        await _park(bringer, place, mails[0], problem)
        bringer.suspects -= keys
    else:
        bringer.suspects |= keys


async def _park(bringer: Bringer, place: Place, mail: Listed, problem: str) -> None:
    """Record a mail that the server does not deliver; it is asked for again, later and later."""
    async with begin(bringer.resources.engine) as tx:
        await leases.hold(tx, bringer.lease)
        await store.park(tx, place, mail, problem, clock.now())
    crashpoint("fetcher.mail_parked")
    bringer.parked = True
    MAILS.labels("parked").inc()
    log.warning(
        "mail_parked",
        account=str(place.account),
        folder=place.folder,
        uidvalidity=place.uidvalidity,
        uid=mail.uid,
        problem=problem,
    )
