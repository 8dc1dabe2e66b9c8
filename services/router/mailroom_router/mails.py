"""Which mail an arrival is: ids that are the same whoever reckons them, and however often.

Invariant: arrivals are joined by their content's fingerprint, never by Message-ID alone. The
header that our sender writes is believed in Sent folders alone: only who owns the account can put
a mail there, while a stranger can write any header into what he sends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid5

from mailroom.contracts import MAIL_HEADER, FolderRole, MailReceived, ObjectRef
from mailroom.messaging.envelope import Received
from mailroom.mime import Mail

NAMESPACE = UUID("eb9312e7-1fef-4465-b498-77f6e4499599")
"""Of mail and placement ids. It never changes: ids of mail that is known would change with it."""

TRIES_FOR_MAIL_SENT = 4
"""How often a copy of what seems to be our own mail waits for `mail.sent`: 75 seconds in all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A mail as it was read: what it says, what knows it again, where that lies as JSON.

    Text and HTML of `mail` lie in `parsed` alone.
    """

    mail: Mail
    fingerprint: str
    parsed: ObjectRef


@dataclass(frozen=True, slots=True)
class Arrival:
    """One arrival, read."""

    received: Received[MailReceived]
    reading: Reading

    @property
    def event(self) -> MailReceived:
        """What the fetcher said of it."""
        return self.received.event


def mail_id(fingerprint: str) -> UUID:
    """The id of the mail with this fingerprint, unless it is one that our sender named."""
    return uuid5(NAMESPACE, fingerprint)


def placement_id(mail: UUID, mailbox: UUID, account: UUID) -> UUID:
    """The id of a mail's copy in a mailbox, as this account brought it."""
    return uuid5(NAMESPACE, f"{mail}/{mailbox}/{account}")


def header_id(mail: Mail) -> UUID | None:
    """The mail id that its header of ours names, if it stands there once and is one."""
    values = [value.strip() for name, value in mail.headers if name.lower() == MAIL_HEADER.lower()]
    if len(values) != 1:
        return None
    try:
        return UUID(values[0])
    except ValueError:
        return None


def named_id(mail: Mail, role: FolderRole) -> UUID | None:
    """The mail id that our sender gave a copy in a Sent folder; None anywhere else."""
    return header_id(mail) if role == "sent" else None


def candidates(arrivals: Sequence[Arrival]) -> dict[str, UUID]:
    """The mail id for each fingerprint, if nobody registered another: a named one comes first."""
    ids: dict[str, UUID] = {}
    named: dict[str, UUID] = {}
    for arrival in arrivals:
        fingerprint = arrival.reading.fingerprint
        ids[fingerprint] = mail_id(fingerprint)
        if given := named_id(arrival.reading.mail, arrival.event.role):
            named[fingerprint] = given
    return ids | named


def id_of(arrival: Arrival, registered: Mapping[str, UUID]) -> UUID:
    """The arrival's mail id, among the registered ids by fingerprint."""
    named = named_id(arrival.reading.mail, arrival.event.role)
    return named or registered[arrival.reading.fingerprint]


def overtook_mail_sent(
    arrivals: Sequence[Arrival], new: frozenset[str], senders: frozenset[str]
) -> UUID | None:
    """The id of a mail that may be our own, though nobody knows its fingerprint yet: let it wait.

    It may be if it has our header and comes from one of our accounts' addresses. A stranger can
    write both, and so delays his own mail by a minute, and wins nothing.
    """
    for arrival in arrivals:
        read = arrival.reading.mail
        ours = any(sender.address.lower() in senders for sender in read.from_)
        waits = arrival.event.role != "sent" and arrival.received.tries < TRIES_FOR_MAIL_SENT
        given = header_id(read)
        if ours and waits and given and arrival.reading.fingerprint in new:
            return given
    return None


KnownBy = Literal["header", "fingerprint"]


def known_by(arrivals: Sequence[Arrival], new: frozenset[str]) -> list[KnownBy | None]:
    """By what each arrival is a mail known before; `new` fingerprints nobody had seen.

    Each sees those before it: the second of two copies in a batch is known by the first.
    """
    unseen = set(new)
    found: list[KnownBy | None] = []
    for arrival in arrivals:
        fingerprint = arrival.reading.fingerprint
        if named_id(arrival.reading.mail, arrival.event.role):
            found.append("header")
        else:
            found.append(None if fingerprint in unseen else "fingerprint")
        unseen.discard(fingerprint)
    return found
