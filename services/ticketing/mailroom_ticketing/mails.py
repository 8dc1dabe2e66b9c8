"""A mail as ticketing sees it: who wrote it, what it answers, and nothing of its text.

Invariant: a `TicketMail` is bounded, however hostile the mail: at most `ANCESTORS` references and
`RECIPIENTS` recipients, none longer than its RFC allows. Everything after this module relies on it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from mailroom.contracts import Address, Automatic, MailRouted, MailSent, ObjectRef
from mailroom.messaging.envelope import Received
from mailroom.mime import Report

ANCESTORS = 12
"""References kept: the eleven newest and the root. Each costs a lock (see `locks`)."""
RECIPIENTS = 100
_ID_LENGTH = 998  # RFC 5322 section 2.1.1: a line has no more
_ADDRESS_LENGTH = 254  # RFC 5321 section 4.5.3.1.3: a path of 256 octets with its brackets

Direction = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class TicketMail:
    """One logical mail. Addresses for comparing are in lower case; Message-IDs without brackets."""

    id: UUID
    direction: Direction
    message_id: str | None
    references: tuple[str, ...]
    """What it answers, oldest first; of a report, the mail that it concerns comes last."""
    senders: tuple[str, ...]
    recipients: tuple[str, ...]
    """To and Cc."""
    author: Address | None
    """The first From, as it came."""
    customer: Address | None
    """Who gets the answer: the first Reply-To, else the author."""
    subject: str
    tagged: str
    """Where tags are looked for: the subject; of a report, that of the mail it concerns too."""
    date: datetime | None
    auto: Automatic
    spam: bool
    backfill: bool
    null_path: bool
    """It came with the null reverse-path `<>` (RFC 5321 section 4.5.5)."""
    raw: ObjectRef
    received_at: datetime
    correlation_id: str
    aliases: tuple[str, ...] = ()
    """What a relay made of the Message-ID of a mail of ours."""

    @property
    def newest_first(self) -> Sequence[str]:
        """The references in the order of trust: In-Reply-To, then References from the end."""
        return self.references[::-1]

    @property
    def own_ids(self) -> Sequence[str]:
        """The Message-IDs that this mail itself is known by: one, or none, or its aliases too."""
        return [*([self.message_id] if self.message_id else []), *self.aliases]

    @property
    def replies_to(self) -> Sequence[str]:
        """The customer's address for comparing: one, or none."""
        return addresses([self.customer.address]) if self.customer else ()

    @property
    def correspondent(self) -> str:
        """Whose automatic answers are counted: `replies_to`, as one person whatever the detail."""
        return next((without_detail(each) for each in self.replies_to), "")


def key_of(text: str) -> bytes:
    """A Message-ID of any length as 16 bytes: what is stored, compared and locked."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def locks(mails: Iterable[TicketMail]) -> Sequence[int]:
    """What two transactions must not decide on at once, sorted, so that they never deadlock.

    Each Message-ID involved, the mail itself (it may have none), and the customer, whose automatic
    answers are counted.
    """
    names: set[bytes] = set()
    for mail in mails:
        names |= {key_of(message_id) for message_id in (*mail.own_ids, *mail.references)}
        names.add(key_of(f"mail {mail.id}"))
        if mail.correspondent:
            names.add(key_of(f"customer {mail.correspondent}"))
    return sorted({int.from_bytes(name[:8], signed=True) for name in names})


def normal(address: str) -> str:
    """An address for comparing. The local part may be case-sensitive; nobody's server is."""
    return address.strip().lower()


def without_detail(address: str) -> str:
    """The address without its `+detail` (RFC 5233): a machine may write from another each time."""
    local, at, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}"


def from_routed(received: Received[MailRouted], report: Report | None) -> TicketMail:
    """A routed mail; `report` is what its parsed form says of the mail that it concerns."""
    event = received.event
    concerned = report.message_id if report else None
    authors = event.from_ or event.sender
    return TicketMail(
        id=event.mail,
        direction=event.direction,
        message_id=_message_id(event.message_id),
        references=ancestry(event.references, event.in_reply_to, concerned),
        senders=addresses(each.address for each in authors),
        recipients=addresses(each.address for each in event.to + event.cc),
        author=authors[0] if authors else None,
        customer=next(iter(event.reply_to or authors), None),
        subject=event.subject,
        tagged=f"{event.subject}\n{report.subject or ''}" if report else event.subject,
        date=event.date,
        auto=event.auto,
        spam=event.spam,
        backfill=event.backfill,
        null_path=event.return_path == "",
        raw=event.raw,
        received_at=event.received_at,
        correlation_id=received.correlation_id,
    )


def from_sent(
    received: Received[MailSent], author: Address | None, asked_at: datetime | None
) -> TicketMail:
    """A mail of ours that left, `asked_at` some time before."""
    event = received.event
    answered = event.answers
    return TicketMail(
        id=event.mail,
        direction="out",
        message_id=_message_id(event.message_id),
        references=ancestry(
            answered.references if answered else (),
            (answered.message_id,) if answered and answered.message_id else (),
            None,
        ),
        senders=(normal(author.address),) if author else (),
        recipients=addresses(each.address for each in event.accepted),
        author=author,
        customer=None,
        subject=event.subject,
        tagged=event.subject,
        date=event.sent_at,
        auto=event.auto,
        spam=False,
        backfill=False,
        null_path=False,
        raw=event.raw,
        received_at=asked_at or event.sent_at,
        correlation_id=received.correlation_id,
        aliases=tuple(filter(None, map(_message_id, event.aliases)))[:ANCESTORS],
    )


def ancestry(
    references: Sequence[str], in_reply_to: Sequence[str], concerned: str | None
) -> tuple[str, ...]:
    """References (RFC 5322 section 3.6.4) as one list, oldest first, without repetition.

    In-Reply-To names the mail that was answered and so comes after References; what a report
    concerns comes last. Of a long list the root and the newest stay.
    """
    newest_first = [concerned or "", *in_reply_to, *reversed(references)]
    known = list(dict.fromkeys(filter(None, map(_message_id, newest_first))))
    if len(known) > ANCESTORS:
        known = [*known[: ANCESTORS - 1], known[-1]]
    return tuple(reversed(known))


def addresses(written: Iterable[str]) -> tuple[str, ...]:
    """Addresses for comparing, without repetition, at most `RECIPIENTS`."""
    found = dict.fromkeys(map(normal, written))
    return tuple(each for each in found if 0 < len(each) <= _ADDRESS_LENGTH)[:RECIPIENTS]


def _message_id(text: str | None) -> str | None:
    stripped = (text or "").strip().removeprefix("<").removesuffix(">")
    return stripped if 0 < len(stripped) <= _ID_LENGTH else None
