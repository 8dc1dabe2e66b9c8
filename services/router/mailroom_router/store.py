"""The router's tables, and what is asked of them.

Invariant: a fingerprint belongs to one mail and a placement id to one row, by unique keys that two
replicas cannot both win; who loses reads again. Rows are written in the order of their keys, so
that two replicas with the same mails in hand wait for each other at most, and never both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import directory
from mailroom.arrays import rows_of
from mailroom.contracts import MailSent
from mailroom.messaging.envelope import Received
from mailroom.messaging.failures import ParkEvent
from mailroom.messaging.tables import messaging_tables
from mailroom_router.mails import KnownBy
from mailroom_router.placing import Placed, Told
from mailroom_router.routing import Account, Atlas, Mailbox, atlas
from mailroom_router.rules import Rule

metadata = MetaData(schema="router")
messaging = messaging_tables(metadata)

rule = Table(
    "rule",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("mailbox", Uuid, nullable=False),
    Column("account", Uuid),
    Column("from_pattern", Text),
    Column("to_pattern", Text),
    Column("subject_pattern", Text),
    Column("header_name", Text),
    Column("header_pattern", Text),
    Column("stop", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("(header_name IS NULL) = (header_pattern IS NULL)", name="rule_header_whole"),
    Index("rule_name", text("lower(name)"), unique=True),
)

fingerprint = Table(
    "fingerprint",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("mail", Uuid, nullable=False),
    Column("known_at", DateTime(timezone=True), nullable=False),
    Index("fingerprint_mail", "mail"),
)

placement = Table(
    "placement",
    metadata,
    Column("placement", Uuid, primary_key=True),
    Column("mail", Uuid, nullable=False),
    Column("mailbox", Uuid, nullable=False),
    Column("account", Uuid, nullable=False),
    Column("direction", Text, nullable=False),
    Column("spam", Boolean, nullable=False),
    Column("raw", Text, nullable=False),
    Column("parsed", Text, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Index("placement_mail", "mail"),
)

# A hash index takes a Message-ID of any length; a B-tree refuses one above 2,704 bytes.
ANY_LENGTH = "hash"

arrival = Table(
    "arrival",
    metadata,
    Column("arrival", Uuid, primary_key=True),
    Column("placement", Uuid, nullable=False),
    Column("mail", Uuid, nullable=False),
    Column("mailbox", Uuid, nullable=False),
    Column("message_id", Text),
    Column("correlation_id", Text, nullable=False),
    Column("known_by", Text),
    Column("told", Boolean, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("defects", ARRAY(Text), nullable=False),
    Column("routed_at", DateTime(timezone=True), nullable=False),
    Index("arrival_mail", "mail"),
    Index("arrival_correlation_id", "correlation_id"),
    Index("arrival_message_id", "message_id", postgresql_using=ANY_LENGTH),
)

own_mail = Table(
    "own_mail",
    metadata,
    Column("mail", Uuid, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("known_at", DateTime(timezone=True), nullable=False),
    Index("own_mail_correlation_id", "correlation_id"),
    Index("own_mail_message_id", "message_id", postgresql_using=ANY_LENGTH),
)


@dataclass(frozen=True, slots=True)
class Known:
    """Mail ids by fingerprint, and which fingerprints nobody had seen before."""

    ids: Mapping[str, UUID]
    new: frozenset[str]


class AccountUnknown(ParkEvent):
    """Mail of an account that the directory does not know (any more)."""

    def __init__(self, account: UUID) -> None:
        self.account = account
        super().__init__(
            f"account {account} was removed from the directory, so its mail has no mailbox: "
            "drop it; the account added anew brings its mails by itself, old ones as backfill"
        )


# Built once: docs/decisions/statements-are-built-once.md.
_KEYS, _IDS = rows_of("keys", Text), rows_of("ids", Uuid)
_RULES = select(*(column for column in rule.c if column.name != "changed_at")).order_by(
    rule.c.position, rule.c.name
)
_REGISTER = insert(fingerprint).on_conflict_do_nothing().returning(fingerprint.c.fingerprint)
_REGISTERED = select(fingerprint.c.fingerprint, fingerprint.c.mail).join(
    _KEYS, fingerprint.c.fingerprint == _KEYS.c.value
)
_PLACE = insert(placement).on_conflict_do_nothing().returning(placement.c.placement)
_PLACED = (
    select(placement.c.placement, placement.c.direction, placement.c.spam)
    .join(_IDS, placement.c.placement == _IDS.c.value)
    .order_by(placement.c.placement)
    .with_for_update(of=placement)
)
_ARRIVE = insert(arrival).on_conflict_do_nothing()


async def world(tx: AsyncConnection, asked_for: Iterable[UUID] = ()) -> Atlas:
    """All that decides a mailbox, as it is now: a rule or a right changed a moment ago counts.

    Raises AccountUnknown for one of the accounts asked for.
    """
    found = _atlas(await directory.snapshot(tx), tuple(await rules(tx)))
    for account in asked_for:
        if account not in found.accounts:
            raise AccountUnknown(account)
    return found


@lru_cache(maxsize=1)
def _atlas(snapshot: directory.Snapshot, rules: tuple[Rule, ...]) -> Atlas:
    accounts = [Account(one.id, one.name, one.address, one.mailbox) for one in snapshot.accounts]
    mailboxes = [
        Mailbox(one.id, one.name, one.kind, one.addresses, one.owner) for one in snapshot.mailboxes
    ]
    return atlas(accounts, mailboxes, rules)


async def rules(tx: AsyncConnection) -> list[Rule]:
    """All rules, disabled ones too, in the order in which they are asked."""
    rows = await tx.execute(_RULES)
    return [Rule(**row) for row in rows.mappings()]


async def rule_named(tx: AsyncConnection, name: str) -> Rule | None:
    """The rule of this name, in any case."""
    return next((one for one in await rules(tx) if one.name.lower() == name.lower()), None)


async def write_rule(tx: AsyncConnection, written: Rule, now: datetime) -> None:
    """Add a rule, or change the one that has its id. Names are unique in any case (23505)."""
    row = asdict(written) | {"changed_at": now}
    statement = insert(rule).values(row)
    await tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))


async def remove_rule(tx: AsyncConnection, removed: Rule) -> None:
    """Remove a rule; decisions that it made stay, with its name."""
    await tx.execute(delete(rule).where(rule.c.id == removed.id))


async def know(tx: AsyncConnection, candidates: Mapping[str, UUID], now: datetime) -> Known:
    """Register mail ids by fingerprint; where one is registered already, that one holds.

    Waits for a transaction that registers the same fingerprint, and then reads what it decided.
    """
    rows = [
        {"fingerprint": key, "mail": mail, "known_at": now}
        for key, mail in sorted(candidates.items())
    ]
    if not rows:
        return Known({}, frozenset())
    new = frozenset((await tx.execute(_REGISTER, rows)).scalars())
    found = await tx.execute(_REGISTERED, {"keys": sorted(candidates)})
    return Known({row.fingerprint: row.mail for row in found}, new)


async def register_own(
    tx: AsyncConnection,
    events: Sequence[Received[MailSent]],
    fingerprints: Sequence[str],
    now: datetime,
) -> None:
    """Give our own mails, by fingerprint, the ids that their sender gave them.

    It replaces the id of a copy that overtook `mail.sent`: later arrivals join our own mail.
    """
    sent = {key: one.event.mail for key, one in zip(fingerprints, events, strict=True)}
    statement = insert(fingerprint)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["fingerprint"], set_={"mail": statement.excluded.mail}
        ),
        [{"fingerprint": key, "mail": sent[key], "known_at": now} for key in sorted(sent)],
    )
    rows = [
        {
            "mail": one.event.mail,
            "message_id": one.event.message_id,
            "correlation_id": one.correlation_id,
            "known_at": now,
        }
        for one in events
    ]
    await tx.execute(
        insert(own_mail).on_conflict_do_nothing(), sorted(rows, key=lambda row: str(row["mail"]))
    )


async def place(tx: AsyncConnection, placed: Sequence[Placed], now: datetime) -> dict[UUID, Told]:
    """Write new placements; of those that were there, what was told before. Locks all of them."""
    first = {one.placement: one for one in reversed(placed)}
    ids = sorted(first, key=str)
    written = await tx.execute(_PLACE, [_placement_row(first[key], now) for key in ids])
    there = sorted(set(ids).difference(written.scalars()), key=str)
    if not there:
        return {}
    rows = await tx.execute(_PLACED, {"ids": there})
    return {row.placement: Told(row.direction, row.spam) for row in rows}


async def record(
    tx: AsyncConnection,
    placed: Sequence[Placed],
    to_tell: Sequence[Placed | None],
    known_by: Sequence[KnownBy | None],
    now: datetime,
) -> None:
    """Write each arrival with its decision, and what is told of placements that were there."""
    await tx.execute(
        _ARRIVE,
        [
            _arrival_row(one, how, now) | {"told": news is not None}
            for one, news, how in zip(placed, to_tell, known_by, strict=True)
        ],
    )
    changed = {news.placement: news.told for news in to_tell if news and news.again}
    if changed:
        await tx.execute(
            update(placement).where(placement.c.placement == bindparam("key")),
            [
                {"key": key, "direction": told.direction, "spam": told.spam}
                for key, told in changed.items()
            ],
        )


def _placement_row(placed: Placed, now: datetime) -> dict[str, Any]:
    return {
        "placement": placed.placement,
        "mail": placed.mail,
        "mailbox": placed.decision.mailbox.id,
        "account": placed.arrival.event.account,
        "direction": placed.told.direction,
        "spam": placed.told.spam,
        "raw": placed.arrival.event.raw.sha256,
        "parsed": placed.arrival.reading.parsed.sha256,
        "placed_at": now,
    }


def _arrival_row(placed: Placed, known_by: KnownBy | None, now: datetime) -> dict[str, Any]:
    received = placed.arrival.received
    return {
        "arrival": received.event.arrival,
        "placement": placed.placement,
        "mail": placed.mail,
        "mailbox": placed.decision.mailbox.id,
        "message_id": placed.arrival.reading.mail.message_id,
        "correlation_id": received.correlation_id,
        "known_by": known_by,
        "rule": placed.decision.rule,
        "reason": placed.decision.reason,
        "defects": list(placed.arrival.reading.mail.defects),
        "routed_at": now,
    }
