"""What becomes of a fetched mail: its row in the ledger and its event. Pure rules.

Invariant: an arrival's id follows from where it arrived, so that the same UID is the same arrival
and the same event after a crash, a restored database, or in another replica.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid5

from mailroom.contracts import FolderRole, MailReceived, ObjectRef
from mailroom.imap.listing import Listed
from mailroom.messaging.envelope import Outgoing

_NAMESPACE = UUID("6f0f6bb8-6b7c-5f5c-9d0e-3f0f2f6c2a51")

State = Literal["published", "joined", "parked"]
"""`published`: its event is in the outbox. `joined`: its bytes were published under an older
UIDVALIDITY of the same folder. `parked`: it is asked for again, since the server lists it but does
not deliver it, or the object store lost it."""

RETRIES = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
)
"""When a parked mail is asked for again; the last one for ever."""


@dataclass(frozen=True)
class Place:
    """A folder of an account under one UIDVALIDITY."""

    account: UUID
    start: datetime
    """Mail with an older internal date is backfill."""
    folder_id: int
    folder: str
    role: FolderRole
    uidvalidity: int


@dataclass(frozen=True)
class Stored:
    """A mail whose bytes are in the object store."""

    mail: Listed
    raw: ObjectRef


@dataclass(frozen=True)
class Arrival:
    """A row of the ledger to be."""

    id: UUID
    uid: int
    state: State
    received_at: datetime
    internal_date: datetime
    flags: tuple[str, ...] = ()
    raw: ObjectRef | None = None
    backfill: bool = False
    joins: UUID | None = None
    """The arrival that brought the same bytes."""


@dataclass(frozen=True)
class ParkedMails:
    """How many mails of an account are asked for again; which came first, and why it is."""

    count: int
    folder: str
    uid: int
    problem: str


def arrival_id(place: Place, uid: int) -> UUID:
    """The id of the arrival of this UID at this place."""
    # By the folder's name: its number is the database's, and another one after a rebuild.
    return uuid5(_NAMESPACE, f"{place.account}/{place.uidvalidity}/{uid}/{place.folder}")


def arrivals(
    place: Place, stored: Iterable[Stored], known: Mapping[str, UUID], now: datetime
) -> list[Arrival]:
    """Rows for mails that were fetched at `now`.

    `known` leads from SHA-256 to the arrival that brought these bytes to this folder under an
    older UIDVALIDITY.
    """
    return [
        Arrival(
            id=arrival_id(place, one.mail.uid),
            uid=one.mail.uid,
            state="joined" if one.raw.sha256 in known else "published",
            received_at=now,
            internal_date=one.mail.internal_date or now,
            flags=one.mail.flags,
            raw=one.raw,
            backfill=is_backfill(one.mail.internal_date or now, place.start),
            joins=known.get(one.raw.sha256),
        )
        for one in stored
    ]


def is_backfill(internal_date: datetime, start: datetime) -> bool:
    """Whether a mail is older than its account's start.

    Internal dates have whole seconds: a mail of the account's first second is not older.
    """
    return internal_date < start.replace(microsecond=0)


def received(place: Place, arrival: Arrival) -> Outgoing:
    """The event that tells of an arrival; from here on, its id is the correlation id."""
    if arrival.raw is None:
        raise ValueError(f"arrival {arrival.id} has no bytes")
    event = MailReceived(
        arrival=arrival.id,
        account=place.account,
        folder=place.folder,
        role=place.role,
        uidvalidity=place.uidvalidity,
        uid=arrival.uid,
        internal_date=arrival.internal_date,
        flags=arrival.flags,
        raw=arrival.raw,
        backfill=arrival.backfill,
        received_at=arrival.received_at,
    )
    return Outgoing(event, str(arrival.id), event_id=uuid5(arrival.id, event.name))


def retry_at(tries: int, now: datetime) -> datetime:
    """When to ask again for a mail that was not delivered `tries` times."""
    return now + RETRIES[min(tries, len(RETRIES)) - 1]
