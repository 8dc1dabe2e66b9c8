"""The fetcher's tables, and the queries of the ledger.

Invariant: a row of `arrivals` is final once it is published or joined; only a parked one changes,
or one whose bytes were lost, which is parked for that (`lose`). Whatever else writes here holds the
account's lease, locked in the same transaction (`leases.hold`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TableValuedAlias

from mailroom.arrays import rows_of
from mailroom.imap.listing import Listed
from mailroom.messaging.tables import messaging_tables
from mailroom_fetcher.ledger import Arrival, ParkedMails, Place, arrival_id, retry_at

metadata = MetaData(schema="fetcher")
messaging = messaging_tables(metadata)

replicas = Table(
    "replicas",
    metadata,
    Column("name", Text, primary_key=True),
    # By its own clock, for people to read: the others watch only whether it changes.
    Column("alive_until", DateTime(timezone=True), nullable=False),
)
accounts = Table(
    "accounts",
    metadata,
    Column("account", Uuid, primary_key=True),
    Column("holder", Text, index=True),
    Column("fetch_wanted_at", DateTime(timezone=True)),
    Column("state", Text),
    Column("problem", Text, nullable=False, server_default=text("''")),
    Column("since", DateTime(timezone=True)),
    Column("observed_at", DateTime(timezone=True)),
)
folders = Table(
    "folders",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("uidvalidity", BigInteger),
    Column("next_uid", BigInteger, nullable=False, server_default=text("1")),
    Column("mails", BigInteger, nullable=False, server_default=text("0")),
    Column("reconciled_at", DateTime(timezone=True)),
    UniqueConstraint("account", "name"),
)
arrivals = Table(
    "arrivals",
    metadata,
    Column("folder", BigInteger, ForeignKey(folders.c.id), primary_key=True),
    Column("uidvalidity", BigInteger, primary_key=True),
    Column("uid", BigInteger, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("internal_date", DateTime(timezone=True), nullable=False),
    Column("sha256", Text),
    Column("size", BigInteger),
    Column("backfill", Boolean, nullable=False),
    Column("joins", Uuid),
    Column("problem", Text, nullable=False, server_default=text("''")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("retry_at", DateTime(timezone=True)),
    CheckConstraint("state IN ('published', 'joined', 'parked')", name="arrivals_state"),
    Index("arrivals_bytes", "folder", "sha256"),
    Index("arrivals_joins", "joins"),
    Index("arrivals_parked", "folder", postgresql_where=text("state = 'parked'")),
)


BYTES_LOST = "its bytes in the object store are lost"
BROUGHT_AGAIN = "its bytes in the object store were lost, and brought again"

# Built once: docs/decisions/statements-are-built-once.md.
_UIDS, _HASHES = rows_of("uids", BigInteger), rows_of("hashes", Text)
_UNKNOWN = (
    select(_UIDS.c.value)
    .outerjoin(
        arrivals,
        and_(
            arrivals.c.folder == bindparam("of"),
            arrivals.c.uidvalidity == bindparam("under"),
            arrivals.c.uid == _UIDS.c.value,
        ),
    )
    .where(arrivals.c.uid.is_(None))
    .order_by(_UIDS.c.value)
)
_SAME_BYTES = (
    select(arrivals.c.sha256, func.coalesce(arrivals.c.joins, arrivals.c.id).label("first"))
    .join(_HASHES, arrivals.c.sha256 == _HASHES.c.value)
    .where(arrivals.c.folder == bindparam("of"), arrivals.c.uidvalidity != bindparam("under"))
    .order_by(arrivals.c.received_at.desc())
)


def _recording() -> Insert:
    statement, was_lost = insert(arrivals), arrivals.c.sha256.is_not(None)
    new = statement.excluded
    changed = ("state", "internal_date", "sha256", "size", "backfill", "joins")
    return statement.on_conflict_do_update(
        index_elements=["folder", "uidvalidity", "uid"],
        set_={name: new[name] for name in changed}
        | {"retry_at": None, "problem": case((was_lost, BROUGHT_AGAIN), else_="")}
        | {"received_at": case((was_lost, arrivals.c.received_at), else_=new.received_at)},
        where=arrivals.c.state == "parked",
    )


_RECORD = _recording().returning(arrivals.c.uid)
_MOVE_CURSOR = (
    update(folders)
    .where(folders.c.id == bindparam("this"), folders.c.next_uid < bindparam("to"))
    .values(next_uid=bindparam("to"))
)
_COUNT = (
    update(folders)
    .where(folders.c.id == bindparam("this"))
    .values(mails=folders.c.mails + bindparam("more"))
)


@dataclass(frozen=True)
class FolderRow:
    """What is known of a folder: its numbering, and from which UID on its mails are new."""

    id: int
    uidvalidity: int | None
    next_uid: int


async def folder(tx: AsyncConnection, account: UUID, name: str) -> FolderRow:
    """The folder's row, made if missing."""
    await tx.execute(insert(folders).values(account=account, name=name).on_conflict_do_nothing())
    found = select(folders.c.id, folders.c.uidvalidity, folders.c.next_uid).where(
        folders.c.account == account, folders.c.name == name
    )
    row = (await tx.execute(found)).one()
    return FolderRow(row.id, row.uidvalidity, row.next_uid)


async def renumber(tx: AsyncConnection, place: Place, next_uid: int) -> None:
    """Begin with a new UIDVALIDITY; mails from `next_uid` on are new, those below are holes.

    What was parked under the old one is forgotten: nobody can ask for it by that UID again. What
    had been brought before it was lost stays on record.
    """
    parked_here = and_(arrivals.c.folder == place.folder_id, arrivals.c.state == "parked")
    await tx.execute(delete(arrivals).where(parked_here, arrivals.c.sha256.is_(None)))
    await _stays_lost(tx, place, parked_here, "the folder was renumbered")
    await tx.execute(
        update(folders)
        .where(folders.c.id == place.folder_id)
        .values(uidvalidity=place.uidvalidity, next_uid=next_uid)
    )


async def reconciled(tx: AsyncConnection, place: Place, now: datetime) -> None:
    """Note that ledger and server were compared."""
    await tx.execute(
        update(folders).where(folders.c.id == place.folder_id).values(reconciled_at=now)
    )


async def unknown(tx: AsyncConnection, place: Place, uids: Sequence[int]) -> list[int]:
    """Those of `uids` that are not in the ledger, ascending."""
    given = {"uids": list(uids), "of": place.folder_id, "under": place.uidvalidity}
    return list((await tx.execute(_UNKNOWN, given)).scalars())


async def same_bytes(
    tx: AsyncConnection, place: Place, hashes: Sequence[str]
) -> Mapping[str, UUID]:
    """From SHA-256 to the arrival that brought it to this folder under another UIDVALIDITY."""
    given = {"hashes": list(hashes), "of": place.folder_id, "under": place.uidvalidity}
    return {row.sha256: row.first for row in await tx.execute(_SAME_BYTES, given)}


async def record(tx: AsyncConnection, place: Place, rows: Sequence[Arrival]) -> list[Arrival]:
    """Write arrivals that were fetched; those of them that the ledger did not have before."""
    if not rows:
        return []
    written = await tx.execute(_RECORD, [_row(place, row) for row in rows])
    fresh = set(written.scalars())
    recorded = [row for row in rows if row.uid in fresh]
    mails = sum(row.state == "published" for row in recorded)
    await _count(tx, place.folder_id, mails)
    return recorded


async def move_cursor(tx: AsyncConnection, place: Place, next_uid: int) -> None:
    """Mails from `next_uid` on are new. The cursor never moves back."""
    await tx.execute(_MOVE_CURSOR, {"this": place.folder_id, "to": next_uid})


async def park(
    tx: AsyncConnection, place: Place, mail: Listed, problem: str, now: datetime
) -> None:
    """Note that the server did not deliver a mail, and when to ask again."""
    key = and_(_at(place), arrivals.c.uid == mail.uid)
    before = (await tx.execute(select(arrivals.c.tries).where(key))).scalar_one_or_none()
    tries = (before or 0) + 1
    failed = {"problem": problem, "tries": tries, "retry_at": retry_at(tries, now)}
    arrival = Arrival(
        id=arrival_id(place, mail.uid),
        uid=mail.uid,
        state="parked",
        received_at=now,
        internal_date=mail.internal_date or now,
    )
    await tx.execute(
        insert(arrivals)
        .values(_row(place, arrival) | failed)
        .on_conflict_do_update(
            index_elements=["folder", "uidvalidity", "uid"],
            set_=failed,
            where=arrivals.c.state == "parked",
        )
    )


async def give_up(tx: AsyncConnection, place: Place, uids: Sequence[int]) -> None:
    """Parked mails that were removed on the server: they stay on record, and are not asked for."""
    given = _unnest(uids, BigInteger)
    gone = and_(_at(place), arrivals.c.uid == given.c.key, arrivals.c.state == "parked")
    await tx.execute(
        update(arrivals)
        .where(gone, arrivals.c.sha256.is_(None))
        .values(retry_at=None, problem=func.concat("removed on the server; ", arrivals.c.problem))
    )
    await _stays_lost(tx, place, gone, "removed on the server")


def _brought(columns: Sequence[ColumnElement[Any]], hashes: Sequence[str]) -> Select[Any]:
    """Arrivals with these bytes that can be asked for: under the folder's present UIDVALIDITY."""
    given = _unnest(hashes, Text)
    return (
        select(*columns)
        .join_from(arrivals, given, arrivals.c.sha256 == given.c.key)
        .join(folders, arrivals.c.folder == folders.c.id)
        .where(arrivals.c.uidvalidity == folders.c.uidvalidity)
    )


async def bringers(tx: AsyncConnection, hashes: Iterable[str]) -> set[UUID]:
    """The accounts that brought some of these bytes and can be asked for them. Locks nothing."""
    return set((await tx.execute(_brought([folders.c.account], list(hashes)))).scalars())


async def lose(
    tx: AsyncConnection, lost: Mapping[str, str], accounts_: Iterable[UUID], now: datetime
) -> list[tuple[str, UUID]]:
    """Have arrivals with these bytes brought again; SHA-256 and account of each, of `accounts_`.

    `lost` leads from SHA-256 to what is wrong. What is asked for already is told, and left as it
    is. The accounts' rows must be locked: who records a mail locks them first, then folders.
    """
    found = await tx.execute(
        _brought([*arrivals.c, folders.c.account], list(lost))
        .where(folders.c.account.in_(list(accounts_)))
        .order_by(arrivals.c.folder, arrivals.c.uidvalidity, arrivals.c.uid)
        .with_for_update(of=[arrivals, folders], key_share=True)
    )
    rows = found.all()
    for row in rows:
        if row.state == "parked":
            continue
        problem = f"{BYTES_LOST}: {lost[row.sha256]}"
        key = and_(arrivals.c.folder == row.folder, arrivals.c.uidvalidity == row.uidvalidity)
        await tx.execute(
            update(arrivals)
            .where(key, arrivals.c.uid == row.uid)
            .values(state="parked", problem=problem, tries=0, retry_at=now)
        )
        await _count(tx, row.folder, -int(row.state == "published"))
    return [(row.sha256, row.account) for row in rows]


async def _stays_lost(
    tx: AsyncConnection, place: Place, which: ColumnElement[bool], why: str
) -> None:
    """Lost arrivals that nobody can bring again: they are what they were, with what is wrong."""
    was = case((arrivals.c.joins.is_(None), "published"), else_="joined")
    lost = await tx.execute(
        update(arrivals)
        .where(which, arrivals.c.sha256.is_not(None))
        .values(state=was, retry_at=None, problem=func.concat(why, "; ", arrivals.c.problem))
        .returning(arrivals.c.state)
    )
    await _count(tx, place.folder_id, list(lost.scalars()).count("published"))


async def _count(tx: AsyncConnection, folder_id: int, mails: int) -> None:
    await tx.execute(_COUNT, {"this": folder_id, "more": mails})


async def retries(tx: AsyncConnection, place: Place, now: datetime, limit: int) -> list[int]:
    """Parked mails that are to be asked for again, ascending."""
    due = and_(_at(place), arrivals.c.state == "parked", arrivals.c.retry_at <= now)
    found = select(arrivals.c.uid).where(due).order_by(arrivals.c.uid).limit(limit)
    return list((await tx.execute(found)).scalars())


async def parked(tx: AsyncConnection, account: UUID) -> ParkedMails | None:
    """Mails of the account that the server has, but does not deliver; None if there are none."""
    found = (
        select(func.count().over(), folders.c.name, arrivals.c.uid, arrivals.c.problem)
        .join(folders, arrivals.c.folder == folders.c.id)
        .where(
            folders.c.account == account,
            arrivals.c.state == "parked",
            arrivals.c.retry_at.is_not(None),
        )
        .order_by(arrivals.c.received_at, arrivals.c.uid)
        .limit(1)
    )
    row = (await tx.execute(found)).first()
    return ParkedMails(*row) if row else None


async def mails(tx: AsyncConnection, account: UUID) -> int:
    """Mails of the account that were published, in all its folders."""
    total = select(func.coalesce(func.sum(folders.c.mails), 0)).where(folders.c.account == account)
    return int((await tx.execute(total)).scalar_one())


def _row(place: Place, arrival: Arrival) -> dict[str, object]:
    return {
        "folder": place.folder_id,
        "uidvalidity": place.uidvalidity,
        "uid": arrival.uid,
        "id": arrival.id,
        "state": arrival.state,
        "received_at": arrival.received_at,
        "internal_date": arrival.internal_date,
        "sha256": arrival.raw.sha256 if arrival.raw else None,
        "size": arrival.raw.size if arrival.raw else None,
        "backfill": arrival.backfill,
        "joins": arrival.joins,
        "problem": "",
    }


def _at(place: Place) -> ColumnElement[bool]:
    return and_(arrivals.c.folder == place.folder_id, arrivals.c.uidvalidity == place.uidvalidity)


def _unnest(values: Sequence[object], of: type[Text] | type[BigInteger]) -> TableValuedAlias:
    """Values as a table with the column `key`, which PostgreSQL joins well even on fresh tables."""
    array = bindparam("keys", list(values), type_=ARRAY(of))
    return func.unnest(array).table_valued("key").render_derived()
