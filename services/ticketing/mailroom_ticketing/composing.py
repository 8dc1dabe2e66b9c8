"""What ticketing has sent: the acknowledgement of a new ticket, and a person's reply.

Invariant: every mail of a ticket carries its tag, answers a mail by its Message-ID, and has an
idempotency key made from what caused it, so that neither a replay nor a second press sends again.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mailroom.contracts import Address, Answers, MailSend, RecordRef
from mailroom_ticketing.known import Ticket
from mailroom_ticketing.mails import TicketMail
from mailroom_ticketing.tags import Ring, sign, without
from mailroom_ticketing.tickets import Decision

RECORD = "ticket"
_REPLIES = UUID("7c0c3c5e-6b3f-4d0e-9f27-0d6c1f1d8a55")

_TEMPLATES = Environment(
    loader=PackageLoader("mailroom_ticketing"),
    # Jinja2 does not escape unless told to, and prints nothing for a name that is missing.
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
# Reply prefixes of German, English, Scandinavian and numbering mail programs.
_PREFIX = re.compile(r"^\s*((re|aw|antw|sv|vs)(\[\d{1,3}\])?\s*:\s*)+", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """A mail that ticketing asked the sender for, as the ticket keeps it."""

    send: MailSend
    kind: Literal["acknowledgement", "reply"]
    ticket: Ticket
    correspondent: str
    """As automatic answers are counted; who gets it stands in `send`."""
    correlation_id: str
    requested_at: datetime


def acknowledgements(decisions: Sequence[Decision], ring: Ring, now: datetime) -> Sequence[Request]:
    """What is to be sent for the tickets that were opened."""
    return [
        Request(
            send=acknowledgement(each.ticket, each.mail, ring),
            kind="acknowledgement",
            ticket=each.ticket,
            correspondent=each.mail.correspondent,
            correlation_id=each.mail.correlation_id,
            requested_at=now,
        )
        for each in decisions
        if each.outcome == "opened" and each.ticket is not None and each.withheld is None
    ]


def acknowledgement(ticket: Ticket, mail: TicketMail, ring: Ring) -> MailSend:
    """The automatic answer to the mail that opened a ticket, in its ticket queue's language.

    It repeats nothing of the mail but its subject: an answer to a forged sender carries no text.
    """
    queue, tag = ticket.queue, sign(ring, ticket.number)
    words = {"number": ticket.number, "tag": tag, "subject": ticket.subject, "queue": queue.name}
    name = f"acknowledgement.{queue.language}"
    return MailSend(
        idempotency_key=f"ack:{mail.id}",
        account=str(queue.account),
        to=(mail.customer,) if mail.customer else (),
        subject=answer_subject(mail.subject),
        text=_TEMPLATES.get_template(f"{name}.txt").render(words),
        html=_TEMPLATES.get_template(f"{name}.html").render(words),
        answers=Answers(mail=mail.id, message_id=mail.message_id, references=mail.references),
        record=RecordRef(kind=RECORD, id=str(ticket.number)),
        tag=tag,
        auto="replied",
    )


def reply(
    ticket: Ticket,
    text: str,
    cc: Sequence[Address],
    answers: Answers | None,
    ring: Ring,
    key: str | None,
) -> MailSend:
    """A person's answer to the customer of a ticket.

    `key`: the same one never sends twice. Without one it is made of the reply and the mail that it
    answers, so that a second press is harmless and the same words to the next mail are not lost.
    """
    people = [each.address for each in cc]
    content = json.dumps([ticket.number, text, people, str(answers and answers.mail)])
    return MailSend(
        idempotency_key=f"reply:{key or uuid5(_REPLIES, content)}",
        account=str(ticket.queue.account),
        to=(ticket.customer,) if ticket.customer else (),
        cc=tuple(cc),
        subject=answer_subject(ticket.subject),
        text=text,
        answers=answers,
        record=RecordRef(kind=RECORD, id=str(ticket.number)),
        tag=sign(ring, ticket.number),
    )


def answer_subject(subject: str) -> str:
    """`Re: ` and the subject, without the prefixes and ticket numbers that it came with."""
    bare = without(subject)
    return f"Re: {_PREFIX.sub('', bare)}".strip()[:1000]
