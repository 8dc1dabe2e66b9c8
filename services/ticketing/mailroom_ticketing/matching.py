"""Which ticket a mail belongs to, and on what evidence.

Invariant: a mail joins only by what a stranger cannot know or sign. A Message-ID counts when its
sender takes part in the ticket; a number in the subject counts when its MAC is right. Everything
else is a suggestion to a person.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from mailroom_ticketing.known import Holder, Known, Ticket, holders
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.tags import Ring, find

Rule = Literal["opened", "report", "reference", "referenced", "tag", "sent"]
Claim = Literal["number unsigned", "number wrongly signed", "stranger's reference", "answered late"]

_SUGGESTIONS = 5
"""A mail may claim that many tickets; the rest of a subject full of numbers is ignored."""
_US = "one of us"


@dataclass(frozen=True)
class Match:
    """The ticket, the rule that found it, and what it rests on."""

    ticket: Ticket
    rule: Rule
    evidence: dict[str, str]


@dataclass(frozen=True)
class Suggestion:
    """`mail` may belong to `ticket`; a person decides."""

    mail: UUID
    ticket: Ticket
    claim: Claim
    evidence: dict[str, str]


def match(known: Known, mail: TicketMail, ring: Ring) -> Match | None:
    """The ticket of a mail, by the rules in their order of trust."""
    return (
        _by_report(known, mail)
        or _by_reference(known, mail)
        or _by_being_referenced(known, mail)
        or _by_tag(known, mail, ring)
    )


def numbers(mails: Iterable[TicketMail], ring: Ring) -> set[int]:
    """The tickets that the subjects of `mails` claim, rightly or not."""
    return {tag.number for mail in mails for tag in find(ring, mail.tagged)}


def suggest(known: Known, mail: TicketMail, ring: Ring) -> Sequence[Suggestion]:
    """What a mail that matched nothing claims: numbers without a right MAC, Message-IDs of a
    ticket that its sender takes no part in."""
    claims: dict[int, Suggestion] = {}
    for suggestion in (*_numbers(known, mail, ring), *_strangers(known, mail)):
        claims.setdefault(id(suggestion.ticket), suggestion)
    return list(claims.values())[:_SUGGESTIONS]


def answered_late(known: Known, mail: TicketMail, ticket: Ticket) -> Sequence[Suggestion]:
    """Mails that answer `mail`, yet opened another ticket before it was known that it is one of
    `ticket`: no rule moves a mail from one ticket to another."""
    return [
        Suggestion(holder.mail, ticket, "answered late", {"message_id": message_id})
        for message_id in mail.own_ids
        for holder in holders(known, message_id)
        if not holder.own and known.at.get(holder.mail, ticket) is not ticket
    ]


def _by_report(known: Known, mail: TicketMail) -> Match | None:
    # RFC 3464: the mailer daemon that reports takes no part, but knows the Message-ID of our mail.
    if mail.auto != "report":
        return None
    return _first(known, "report", mail.newest_first, _is_ours)


def _by_reference(known: Known, mail: TicketMail) -> Match | None:
    def may(holder: Holder, ticket: Ticket) -> str | None:
        colleague = _US if mail.direction == "out" and holder.own else None
        return colleague or _takes_part(mail, ticket)

    return _first(known, "reference", mail.newest_first, may)


def _by_being_referenced(known: Known, mail: TicketMail) -> Match | None:
    # A reply that overtook its original opened the ticket; now the original comes.
    def may(holder: Holder, ticket: Ticket) -> str | None:
        return None if holder.own else _takes_part(mail, ticket)

    return _first(known, "referenced", mail.own_ids, may)


def _by_tag(known: Known, mail: TicketMail, ring: Ring) -> Match | None:
    for tag in find(ring, mail.tagged):
        if tag.signed and tag.number in known.tickets:
            return Match(known.tickets[tag.number], "tag", {"tag": tag.text})
    return None


def _takes_part(mail: TicketMail, ticket: Ticket) -> str | None:
    """Who: of incoming mail a sender; of outgoing, seen in our Sent folder, a recipient."""
    people = mail.senders if mail.direction == "in" else mail.recipients
    return next((each for each in people if each in ticket.participants), None)


def _is_ours(holder: Holder, _ticket: Ticket) -> str | None:
    return _US if holder.own and holder.direction == "out" else None


def _first(
    known: Known,
    rule: Rule,
    message_ids: Sequence[str],
    may: Callable[[Holder, Ticket], str | None],
) -> Match | None:
    for message_id in message_ids:
        for holder in holders(known, message_id):
            ticket = known.at.get(holder.mail)
            if ticket is not None and (who := may(holder, ticket)):
                evidence = {"message_id": message_id, "mail": str(holder.mail), "by": who}
                return Match(ticket, rule, evidence)
    return None


def _numbers(known: Known, mail: TicketMail, ring: Ring) -> Iterator[Suggestion]:
    for tag in find(ring, mail.tagged):
        ticket = known.tickets.get(tag.number)
        if ticket is not None and not tag.signed:
            claim: Claim = "number wrongly signed" if tag.has_mac else "number unsigned"
            yield Suggestion(mail.id, ticket, claim, {"tag": tag.text})


def _strangers(known: Known, mail: TicketMail) -> Iterator[Suggestion]:
    for message_id in mail.newest_first:
        for holder in holders(known, message_id):
            ticket = known.at.get(holder.mail)
            if ticket is not None and holder.own:
                evidence = {"message_id": message_id, "mail": str(holder.mail)}
                yield Suggestion(mail.id, ticket, "stranger's reference", evidence)
