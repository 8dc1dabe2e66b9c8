"""What the sender says became of a mail that a ticket asked for, as the ticket keeps it.

Invariant: each fact is one row with its own time, in whatever order facts come; none overwrites
another, so that "failed, unknown" and a later "sent" both stay to be read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from mailroom.contracts import MailFailed, MailFiled, MailRejected, MailSent, Recipient
from mailroom.messaging.envelope import Received

What = Literal["sent", "filed", "failed", "rejected"]


@dataclass(frozen=True)
class Outcome:
    """One fact about a request."""

    event_id: str
    idempotency_key: str
    what: What
    mail: UUID | None
    at: datetime
    words: str
    """For a person: whom the server took it for, what it said, what is to be done."""


def outcome(received: Received[Any], now: datetime) -> Outcome:
    """The fact that an event tells."""
    event = received.event
    key, at = event.idempotency_key or "", _published(received.published_at, now)
    match event:
        case MailSent():
            return Outcome(received.event_id, key, "sent", event.mail, event.sent_at, _sent(event))
        case MailFiled():
            words = f"copy in {event.folder}"
            return Outcome(received.event_id, key, "filed", event.mail, at, words)
        case MailFailed():
            return Outcome(received.event_id, key, "failed", event.mail, at, _failed(event))
        case MailRejected():
            return Outcome(received.event_id, key, "rejected", None, at, _rejected(event))
    raise TypeError(f"{type(event).__name__} tells nothing of a request")


def _sent(event: MailSent) -> str:
    told = [f"to {', '.join(each.address for each in event.accepted)}", f"({event.smtp_reply})"]
    if event.refused:
        told.append(f"but refused for {_refusals(event.refused)}")
    if event.maybe_twice:
        told.append("perhaps a second time: an earlier attempt ended unknown")
    return " ".join(told)


def _failed(event: MailFailed) -> str:
    why = {
        "refused": "the server refused it",
        "expired": "no server took it in time",
        "unknown": "nobody knows whether it left: look, then send again or let it be",
        "account_removed": "its account was removed",
    }[event.reason]
    said = f" ({event.smtp_reply})" if event.smtp_reply else ""
    return f"{why}{said}{': ' if event.refused else ''}{_refusals(event.refused)}"


def _rejected(event: MailRejected) -> str:
    return "; ".join(f"{each.field} {each.value!r}: {each.remedy}" for each in event.errors)


def _refusals(refused: Iterable[Recipient]) -> str:
    return ", ".join(f"{each.address} ({each.code or '-'} {each.reply})" for each in refused)


def outcomes(events: Sequence[Received[Any]], now: datetime) -> Sequence[Outcome]:
    """The facts that events tell, in order."""
    return [outcome(each, now) for each in events]


def _published(published_at: datetime, now: datetime) -> datetime:
    # AMQP's timestamp counts seconds; the second's end keeps a fact behind what caused it.
    return max(published_at, min(now, published_at + timedelta(milliseconds=999)))
