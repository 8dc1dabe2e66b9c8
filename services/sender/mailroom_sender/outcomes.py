"""What a try came to, and what follows from it: for each recipient and for the whole mail.

Invariant: a recipient whose server accepted the mail, or of whom nobody knows, is never given a
second copy unless the account says so and `mail.sent` will say "maybe twice". Plain functions over
plain data: no clock, no connection, no table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from mailroom_sender.schedule import next_try

State = Literal["accepted", "sending", "unknown", "sent", "failed", "cancelled"]
"""Of a request. `accepted` waits for its first or next try; `sending` is the time of DATA alone;
`unknown` waits for a person; `sent` may still have recipients that are tried again."""

FailedReason = Literal["refused", "expired", "unknown", "account_removed"]

TOO_MANY_RECIPIENTS = 452
"""RFC 5321 section 4.5.3.1.10: send to those accepted, then to the rest at once."""


@dataclass(frozen=True)
class Reply:
    """What an SMTP server said (RFC 5321 section 4.2)."""

    code: int
    text: str

    @property
    def is_positive(self) -> bool:
        """It took it."""
        return 200 <= self.code < 300

    @property
    def is_final_refusal(self) -> bool:
        """It will say the same next time (RFC 5321 section 4.2.1: 5yz)."""
        return 500 <= self.code < 600


@dataclass(frozen=True)
class Target:
    """One recipient of the envelope, and what was last said of it."""

    address: str
    state: Literal["pending", "accepted", "refused"] = "pending"
    code: int | None = None
    reply: str = ""


@dataclass(frozen=True)
class Unreachable:
    """The server never heard of this mail: no connection, no TLS, no login, lost before DATA, or no
    bytes to give it."""

    problem: str
    code: int | None = None


@dataclass(frozen=True)
class Answered:
    """The server answered to the end. `data` is None where no recipient was accepted."""

    recipients: Mapping[str, Reply]
    data: Reply | None


@dataclass(frozen=True)
class Unanswered:
    """DATA began, and its answer is not known: the mail may have left."""

    recipients: Mapping[str, Reply]
    problem: str


Try = Unreachable | Answered | Unanswered


@dataclass(frozen=True)
class Before:
    """A mail as it stood when it was tried."""

    targets: tuple[Target, ...]
    left: bool = False
    """`mail.sent` was told."""
    failures: int = 0
    """Tries that brought it no further: they choose the pause to the next."""
    unknowns: int = 0
    """Tries that ended unknown."""


@dataclass(frozen=True)
class Policy:
    """How often and how long one tries."""

    pauses: Sequence[timedelta]
    give_up: datetime
    unknown: Literal["resend", "hold"]
    unknown_tries: int
    """After so many unknown ends it is held, whatever the account says: no storm of copies."""


@dataclass(frozen=True)
class Verdict:
    """How a mail stands after a try, and what is told of it."""

    state: State
    targets: tuple[Target, ...]
    due: datetime | None
    failures: int
    unknowns: int
    tell_sent: bool = False
    failed: FailedReason | None = None
    """Tell `mail.failed` with this reason, about `told`."""
    told: tuple[Target, ...] = ()


def decide(before: Before, tried: Try, now: datetime, policy: Policy) -> Verdict:
    """What follows from a try."""
    if isinstance(tried, Unanswered):
        return _unknown(before, tried, now, policy)
    targets = after(before.targets, tried)
    progress = _accepted(targets) > _accepted(before.targets)
    waiting = [target for target in targets if target.state == "pending"]
    at_once = progress and any(target.code == TOO_MANY_RECIPIENTS for target in waiting)
    failures = before.failures if at_once else before.failures + 1
    due = now if at_once else next_try(failures, now, policy.pauses, policy.give_up)
    verdict = Verdict(
        state="sent" if before.left or progress else "accepted",
        targets=targets,
        due=due if waiting else None,
        failures=failures,
        unknowns=before.unknowns,
        tell_sent=progress and not before.left,
    )
    if waiting and due is None:
        return _closed(before, verdict, "expired")
    return verdict if waiting else _closed(before, verdict, "refused")


def give_up(before: Before, reason: Literal["expired", "account_removed"]) -> Verdict:
    """Stop trying, without another try."""
    verdict = Verdict(
        state="sent" if before.left else "accepted",
        targets=before.targets,
        due=None,
        failures=before.failures,
        unknowns=before.unknowns,
    )
    return _closed(before, verdict, reason)


def cancel(state: State, before: Before) -> Verdict | None:
    """Cancel what has not left; None where it is too late, and its outcome says what happened."""
    if state != "accepted":
        return None
    cancelled = Verdict("cancelled", before.targets, None, before.failures, before.unknowns)
    return _held(cancelled, before.targets) if before.unknowns else cancelled


def after(targets: Iterable[Target], tried: Try) -> tuple[Target, ...]:
    """The recipients after a try: those not pending stay as they are."""
    return tuple(
        _after(target, tried) if target.state == "pending" else target for target in targets
    )


def _after(target: Target, tried: Try) -> Target:
    if isinstance(tried, Unreachable):
        return replace(target, code=tried.code, reply=tried.problem)
    reply = tried.recipients.get(target.address)
    if reply is None:
        return target
    if reply.is_positive:
        if isinstance(tried, Unanswered):
            return replace(target, code=None, reply=tried.problem)
        reply = tried.data or reply
    said = replace(target, code=reply.code, reply=reply.text)
    if reply.is_positive:
        return replace(said, state="accepted")
    return replace(said, state="refused") if reply.is_final_refusal else said


def _unknown(before: Before, tried: Unanswered, now: datetime, policy: Policy) -> Verdict:
    targets, failures = after(before.targets, tried), before.failures + 1
    unknowns = before.unknowns + 1
    due = next_try(failures, now, policy.pauses, policy.give_up)
    resend = policy.unknown == "resend" and unknowns < policy.unknown_tries and due is not None
    verdict = Verdict(
        state="sent" if before.left else "accepted",
        targets=targets,
        due=due,
        failures=failures,
        unknowns=unknowns,
    )
    if resend:
        return verdict
    offered = {address for address, reply in tried.recipients.items() if reply.is_positive}
    return _held(verdict, (target for target in targets if target.address in offered))


def _held(verdict: Verdict, doubtful: Iterable[Target]) -> Verdict:
    """It may have left for the doubtful ones, and will not be tried again by itself."""
    told = tuple(doubtful)
    return replace(verdict, state="unknown", due=None, failed="unknown", told=told)


def _closed(before: Before, verdict: Verdict, reason: FailedReason) -> Verdict:
    """Nobody is tried any more: tell of those whom no earlier event told of."""
    if before.unknowns and not _accepted(verdict.targets):
        return _held(verdict, verdict.targets)
    closed = tuple(
        replace(target, state="refused") if target.state == "pending" else target
        for target in verdict.targets
    )
    settled = replace(verdict, targets=closed)
    if verdict.state == "accepted":
        return replace(settled, state="failed", failed=reason, told=closed)
    earlier = before.targets if before.left else verdict.targets
    open_before = {target.address for target in earlier if target.state == "pending"}
    told = tuple(t for t in closed if t.state == "refused" and t.address in open_before)
    return replace(settled, failed=reason, told=told) if told else settled


def _accepted(targets: Iterable[Target]) -> int:
    return sum(target.state == "accepted" for target in targets)


Word = Literal["again", "arrived", "dropped"]
"""What a person says of a mail that is held."""


def release(before: Before, word: Word, now: datetime) -> Verdict:
    """End the hold: send it again, or take it for arrived, or for dropped.

    This concerns the recipients of whom nobody knows; where all were refused, those.
    """
    doubtful = [target for target in before.targets if target.state == "pending"]
    doubtful = doubtful or [target for target in before.targets if target.state == "refused"]
    states: Mapping[Word, Literal["pending", "accepted", "refused"]] = {
        "again": "pending",
        "arrived": "accepted",
        "dropped": "refused",
    }
    targets = tuple(
        replace(target, state=states[word]) if target in doubtful else target
        for target in before.targets
    )
    left = before.left or word == "arrived"
    waiting: State = "sent" if left else "accepted"
    return Verdict(
        state="failed" if word == "dropped" and not left else waiting,
        targets=targets,
        due=now if word == "again" else None,
        failures=0,
        unknowns=before.unknowns,
        tell_sent=word == "arrived" and not before.left,
    )
