"""What must have become of mails, whatever was killed meanwhile: a plain model, no I/O.

Invariant: it knows what people wrote and nothing of how Mailroom works, so that what it demands is
what a person would: each mail at one ticket, each acknowledgement once, or shown as unknown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mail:
    """A mail that a customer wrote to us; ids are Message-IDs without brackets."""

    id: str
    writer: str
    joins: str | None = None
    """The mail whose ticket it belongs to. None: it opens one."""
    is_acknowledged: bool = True
    """Whether the ticket that it opens is."""

    @property
    def first(self) -> str:
        """The mail that its ticket is about."""
        return self.joins or self.id


@dataclass(frozen=True)
class Answer:
    """A mail that lies in a customer's inbox."""

    id: str
    answers: str
    taken_as: str
    """What Postfix called it when it took it: the same for what it delivered again by itself,
    because Dovecot had kept it and died before it said so (RFC 1047)."""


@dataclass(frozen=True)
class Seen:
    """What there is."""

    tickets: Mapping[int, Sequence[str]]
    """The customers' mails in the dialogue of each ticket, by ticket number."""
    inboxes: Mapping[str, Sequence[Answer]]
    """What each customer got."""
    sent: Sequence[str]
    """The mails in our Sent folders."""
    doubtful: Mapping[str, int]
    """Mails of ours of which the ticket says that they left perhaps again, or perhaps not; and of
    how many tries nobody knows what came of them."""
    parked: Sequence[str]


def violations(mails: Sequence[Mail], seen: Seen, may_be_parked: Sequence[str] = ()) -> list[str]:
    """What is not as it must be, for people; empty when all is.

    `may_be_parked` are parts of reasons for which something may be parked.
    """
    return [
        *(
            f"parked: {reason}"
            for reason in seen.parked
            if not any(expected in reason for expected in may_be_parked)
        ),
        *_of_tickets(mails, seen),
        *_of_answers(mails, seen),
    ]


def _of_tickets(mails: Iterable[Mail], seen: Seen) -> Iterator[str]:
    wanted: dict[str, set[str]] = {}
    for mail in mails:
        wanted.setdefault(mail.first, set()).add(mail.id)
    for number, dialogue in seen.tickets.items():
        if len(dialogue) != len(set(dialogue)):
            yield f"ticket {number} has a mail twice: {dialogue}"
        # What was asked for is taken away, so that a second ticket with it finds nothing.
        first = next((mail for mail, all_ in wanted.items() if all_ == set(dialogue)), None)
        if first is None:
            yield f"ticket {number} should not be there, or not so: {dialogue}"
        else:
            del wanted[first]
    for missing in wanted.values():
        yield f"no ticket has {sorted(missing)}"


def _of_answers(mails: Sequence[Mail], seen: Seen) -> Iterator[str]:
    about = {mail.id: mail.first for mail in mails}
    got: dict[str, list[str]] = {}
    for writer, inbox in seen.inboxes.items():
        for answer in dict.fromkeys(inbox):
            if answer.answers not in about:
                yield f"{writer} got {answer.id}, which nobody should have sent"
            # Of two mails of one conversation, the one that came first is answered.
            got.setdefault(about.get(answer.answers, ""), []).append(answer.id)
    for mail in mails:
        if mail.joins is None:
            yield from _of_acknowledgement(mail, got.get(mail.id, []), seen)


def _of_acknowledgement(mail: Mail, got: Sequence[str], seen: Seen) -> Iterator[str]:
    if not mail.is_acknowledged:
        yield from (f"{mail.id} is answered by {answer}, and should not be" for answer in got)
        return
    if len(set(got)) != 1:
        yield f"{mail.id} has {len(set(got))} acknowledgements, not one: {got}"
        return
    if len(got) > 1 + (unknown := seen.doubtful.get(got[0], 0)):
        yield f"{got[0]}, for {mail.id}, came {len(got)} times, and is {unknown} times unknown"
    if (copies := seen.sent.count(got[0])) != 1:
        yield f"{got[0]} lies in Sent {copies} times"
