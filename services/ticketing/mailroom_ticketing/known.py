"""What a batch of mails is decided on: loaded under locks, then changed by its own decisions.

Invariant: a decision reads and writes `Known` alone. So the second mail of a conversation sees what
the first one of the same batch has done, and what is to be stored is what was decided.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from mailroom.contracts import Address
from mailroom_ticketing.mails import Direction, TicketMail, key_of

State = Literal["new", "open", "waiting", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
Language = Literal["de", "en"]


@dataclass(frozen=True)
class TicketQueue:
    """A ticket queue: which account answers, in which language, and whether by itself."""

    id: int
    name: str
    account: UUID
    language: Language
    acknowledge: bool


@dataclass
class Ticket:
    """A ticket as the batch works on it. `number` is 0 until the store has given it one."""

    queue: TicketQueue
    state: State
    customer: Address | None
    subject: str
    created_at: datetime
    updated_at: datetime
    number: int = 0
    priority: Priority = "normal"
    last_incoming_at: datetime | None = None
    participants: set[str] = field(default_factory=set)
    """Addresses whose mails may join by Message-ID alone."""
    newcomers: set[str] = field(default_factory=set)
    """Participants to be stored."""
    changed: bool = False


@dataclass(frozen=True)
class Holder:
    """A mail that has a Message-ID (`own`) or references it."""

    mail: UUID
    own: bool
    direction: Direction


@dataclass(frozen=True)
class NewMessageId:
    """A Message-ID to store. `position`: how many holders of the same one its writer saw, so that
    two writers who saw the same conversation cannot both be stored."""

    key: bytes
    position: int
    mail: UUID
    own: bool


@dataclass
class Known:
    """Feeds and ticket queues, tickets, mails and Message-IDs that concern a batch."""

    feeds: Mapping[UUID, TicketQueue] = field(default_factory=dict)
    """Mailbox → the ticket queue that it feeds."""
    ours: frozenset[str] = frozenset()
    """Addresses of our accounts and mailboxes."""
    tickets: dict[int, Ticket] = field(default_factory=dict)
    at: dict[UUID, Ticket] = field(default_factory=dict)
    """Mail → its ticket."""
    loose: dict[UUID, TicketMail] = field(default_factory=dict)
    """Mails that found no ticket yet, and join when one of their conversation did."""
    holders: dict[bytes, list[Holder]] = field(default_factory=lambda: defaultdict(list))
    positions: dict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    """Message-ID → how many of its holders are stored."""
    answered: dict[tuple[int, str], datetime] = field(default_factory=dict)
    """(ticket queue, address) → when it last got an automatic answer."""
    new_tickets: list[Ticket] = field(default_factory=list)
    new_ids: list[NewMessageId] = field(default_factory=list)


def holders(known: Known, message_id: str) -> Sequence[Holder]:
    """Who has or references it: those whose own it is first, the oldest first among equals."""
    return sorted(known.holders.get(key_of(message_id), []), key=lambda holder: not holder.own)


def learn(known: Known, mail: TicketMail) -> None:
    """Remember the Message-IDs of a mail, so that its conversation finds it."""
    for message_id in mail.own_ids:
        _hold(known, message_id, Holder(mail.id, own=True, direction=mail.direction))
    for message_id in mail.references:
        _hold(known, message_id, Holder(mail.id, own=False, direction=mail.direction))


def _hold(known: Known, message_id: str, holder: Holder) -> None:
    key = key_of(message_id)
    if holder in known.holders[key]:
        return
    known.holders[key].append(holder)
    known.new_ids.append(NewMessageId(key, known.positions[key], holder.mail, holder.own))
    known.positions[key] += 1
