"""A request as it stands, and the events that tell of it: plain data, no table, no connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mailroom.contracts import (
    Contract,
    MailCancelled,
    MailFailed,
    MailFiled,
    MailSend,
    MailSent,
    ObjectRef,
    Recipient,
)
from mailroom_sender.outcomes import Before, State, Target, Verdict

Key = tuple[str, str]
"""Publisher and idempotency key: what a request is known by."""


@dataclass(frozen=True)
class Request:
    """An accepted request, without its body: `raw` has that."""

    mail: UUID
    publisher: str
    idempotency_key: str
    content_hash: str
    event_id: str
    correlation_id: str
    account: UUID
    sender: str
    """The envelope's reverse-path."""
    message_id: str
    subject: str
    """With its tag."""
    asked: MailSend
    """As it came, without text, html and attachments."""
    raw: ObjectRef
    state: State
    due: datetime | None
    tries: int
    failures: int
    unknowns: int
    first_due: datetime
    expires_at: datetime | None
    accepted_at: datetime
    sent_at: datetime | None
    targets: tuple[Target, ...]

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.publisher, self.idempotency_key

    @property
    def before(self) -> Before:
        """As the rules see it."""
        return Before(self.targets, self.sent_at is not None, self.failures, self.unknowns)


def without_body(asked: MailSend) -> dict[str, Any]:
    """What is kept of a request beside the composed mail, as JSON."""
    return asked.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude={"text", "html", "attachments"}
    )


def sent(request: Request, verdict: Verdict, reply: str, now: datetime) -> MailSent:
    """A server took it for at least one recipient."""
    return MailSent(
        **_common(request),
        accepted=_told(target for target in verdict.targets if target.state == "accepted"),
        refused=_told(target for target in verdict.targets if target.state != "accepted"),
        subject=request.subject,
        answers=request.asked.answers,
        tag=request.asked.tag,
        auto=request.asked.auto,
        smtp_reply=reply,
        maybe_twice=verdict.unknowns > 0,
        raw=request.raw,
        sent_at=now,
    )


def told(request: Request, verdict: Verdict, reply: str, now: datetime) -> list[Contract]:
    """The events that a verdict asks for, in order."""
    events: list[Contract] = []
    if verdict.tell_sent:
        events.append(sent(request, verdict, reply, now))
    if verdict.failed is not None:
        last = next((target for target in reversed(verdict.told) if target.reply), None)
        failed = MailFailed(
            **_common(request),
            reason=verdict.failed,
            refused=_told(verdict.told),
            smtp_code=last.code if last else None,
            smtp_reply=last.reply if last else "",
        )
        events.append(failed)
    if verdict.state == "cancelled":
        events.append(MailCancelled(**_common(request)))
    return events


def filed(request: Request, folder: str, uidvalidity: int | None, uid: int | None) -> MailFiled:
    """Its copy lies in the account's Sent folder."""
    return MailFiled(**_common(request), folder=folder, uidvalidity=uidvalidity, uid=uid)


def _common(request: Request) -> dict[str, Any]:
    return {
        "publisher": request.publisher,
        "idempotency_key": request.idempotency_key,
        "mail": request.mail,
        "account": request.account,
        "message_id": request.message_id,
        "record": request.asked.record,
    }


def _told(targets: Any) -> Sequence[Recipient]:
    return tuple(Recipient(address=t.address, code=t.code, reply=t.reply) for t in targets)
