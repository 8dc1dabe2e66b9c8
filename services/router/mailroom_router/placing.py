"""A mail in its mailbox: the placement, what is told of it, and when that is told again.

Invariant: one mail, mailbox and account make one placement, whichever folders it lies in. It is
told once, and again only when a later arrival changes what a subscriber should do: a mail that was
only seen as sent turns out to be received as well, or one from Junk was put into another folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from mailroom.contracts import Address, MailRouted, RoutedAttachment
from mailroom.mime import Address as MailAddress
from mailroom.mime import Mail
from mailroom_router.mails import Arrival, id_of, placement_id
from mailroom_router.routing import Atlas, Decision, Direction, decide


@dataclass(frozen=True, slots=True)
class Told:
    """What subscribers know of a placement, as far as a later arrival can change it."""

    direction: Direction
    spam: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """An arrival in its mailbox."""

    arrival: Arrival
    mail: UUID
    placement: UUID
    decision: Decision
    told: Told
    again: bool = False
    """It was told before, and is told again because a later arrival changed `told`."""


def place(arrivals: Sequence[Arrival], ids: Mapping[str, UUID], world: Atlas) -> list[Placed]:
    """Decide each arrival's mailbox; `ids` are mail ids by fingerprint."""
    return [_place(arrival, id_of(arrival, ids), world) for arrival in arrivals]


def _place(arrival: Arrival, mail: UUID, world: Atlas) -> Placed:
    event, read = arrival.event, arrival.reading.mail
    # Mail to ourselves lies in Inbox and Sent: it is received there, and sent here.
    direction: Direction = "out" if event.role == "sent" else "in"
    decision = decide(read, event.account, direction, world)
    placement = placement_id(mail, decision.mailbox.id, event.account)
    told = Told(direction, spam=read.spam or event.role == "junk")
    return Placed(arrival, mail, placement, decision, told)


def news(placed: Sequence[Placed], before: Mapping[UUID, Told]) -> list[Placed | None]:
    """For each arrival what is to be told of it, or None; `before` is what was told earlier.

    Each sees those before it: the same mail twice in a batch is told once.
    """
    known = dict(before)
    to_tell: list[Placed | None] = []
    for one in placed:
        earlier = known.get(one.placement)
        now = one.told if earlier is None else _both(earlier, one.told)
        known[one.placement] = now
        again = earlier is not None
        to_tell.append(replace(one, told=now, again=again) if now != earlier else None)
    return to_tell


def _both(earlier: Told, later: Told) -> Told:
    direction: Direction = "in" if "in" in {earlier.direction, later.direction} else "out"
    return Told(direction, spam=earlier.spam and later.spam)


def routed(placed: Placed) -> MailRouted:
    """The event that tells it."""
    event, reading = placed.arrival.event, placed.arrival.reading
    mail, mailbox = reading.mail, placed.decision.mailbox
    return MailRouted(
        mail=placed.mail,
        placement=placed.placement,
        mailbox=mailbox.id,
        mailbox_kind=mailbox.kind,
        account=event.account,
        arrival=event.arrival,
        direction=placed.told.direction,
        message_id=mail.message_id,
        in_reply_to=mail.in_reply_to,
        references=mail.references,
        from_=_addresses(mail.from_),
        sender=_addresses(mail.sender),
        reply_to=_addresses(mail.reply_to),
        to=_addresses(mail.to),
        cc=_addresses(mail.cc),
        delivered_to=mail.delivered_to,
        return_path=mail.return_path,
        subject=mail.subject,
        date=mail.date,
        tags=mail.tags,
        auto=mail.auto,
        spam=placed.told.spam,
        authentication=authentication(mail),
        attachments=_attachments(mail),
        raw=event.raw,
        parsed=reading.parsed,
        defects=mail.defects,
        backfill=event.backfill,
        rule=placed.decision.rule,
        reason=placed.decision.reason,
        received_at=event.received_at,
    )


def authentication(mail: Mail) -> str | None:
    """The topmost Authentication-Results: our own server's, as the last to add one (RFC 8601)."""
    return next(
        (value for name, value in mail.verdicts if name.lower() == "authentication-results"), None
    )


def _addresses(addresses: Sequence[MailAddress]) -> tuple[Address, ...]:
    return tuple(Address(name=one.name, address=one.address) for one in addresses)


def _attachments(mail: Mail) -> tuple[RoutedAttachment, ...]:
    return tuple(
        RoutedAttachment(part=one.part, filename=one.filename or "", type=one.type, size=one.size)
        for one in mail.attachments
    )
