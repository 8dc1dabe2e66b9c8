"""What a try came to, and what follows from it: for each recipient and for the whole mail.

Invariant: a recipient whose server accepted the mail, or of whom nobody knows, is never given a
second copy unless the account says so and `mail.sent` will say "maybe twice". Plain functions over
plain data: no clock, no connection, no table.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    doubtful: bool = False
    """The answer to DATA for it is not known: it may have the mail, whatever was said since."""


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
    return _waiting(before, verdict) if waiting else _closed(before, verdict, "refused")


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
    return _over(cancelled) if before.unknowns else cancelled


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
            return replace(target, code=None, reply=tried.problem, doubtful=True)
        reply = tried.data or reply
    said = replace(target, code=reply.code, reply=reply.text)
    if reply.is_positive:
        return replace(said, state="accepted", doubtful=False)
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
        return _waiting(before, verdict)
    new = _newly_refused(before, targets) if before.left else ()
    return _held(verdict, (target for target in targets if target.doubtful or target in new))


def _waiting(before: Before, verdict: Verdict) -> Verdict:
    """Others are still tried. Until `mail.sent`, the last event tells of everybody."""
    refused = _newly_refused(before, verdict.targets)
    return replace(verdict, failed="refused", told=refused) if before.left and refused else verdict


def _newly_refused(before: Before, targets: Iterable[Target]) -> tuple[Target, ...]:
    were_open = {target.address for target in before.targets if target.state == "pending"}
    return tuple(t for t in targets if t.state == "refused" and t.address in were_open)


def _over(verdict: Verdict) -> Verdict:
    """As `_held`, and nobody is tried any more, whatever is said of the doubtful ones."""
    if not any(target.doubtful for target in verdict.targets):
        return _held(verdict, verdict.targets)
    closed = tuple(
        target if target.doubtful or target.state != "pending" else replace(target, state="refused")
        for target in verdict.targets
    )
    return _held(replace(verdict, targets=closed), closed)


def _held(verdict: Verdict, doubtful: Iterable[Target]) -> Verdict:
    """It may have left for the doubtful ones, and will not be tried again by itself."""
    told = tuple(doubtful)
    return replace(verdict, state="unknown", due=None, failed="unknown", told=told)


def _closed(before: Before, verdict: Verdict, reason: FailedReason) -> Verdict:
    """Nobody is tried any more: tell of those whom no earlier event told of."""
    if before.unknowns and not _accepted(verdict.targets):
        return _over(verdict)
    closed = tuple(
        replace(target, state="refused") if target.state == "pending" else target
        for target in verdict.targets
    )
    settled = replace(verdict, targets=closed)
    if verdict.state == "accepted":
        return replace(settled, state="failed", failed=reason, told=closed)
    earlier = before if before.left else replace(before, targets=verdict.targets)
    told = _newly_refused(earlier, closed)
    return replace(settled, failed=reason, told=told) if told else settled


def _accepted(targets: Iterable[Target]) -> int:
    return sum(target.state == "accepted" for target in targets)


Word = Literal["again", "arrived", "dropped"]
"""What a person says of a mail that is held."""


def release(before: Before, word: Word, now: datetime) -> Verdict:
    """End the hold: send it again, or take it for arrived, or for dropped.

    This concerns the recipients of whom nobody knows; who was refused for now is tried on.
    """
    doubtful = _doubtful(before)
    states: Mapping[Word, Literal["pending", "accepted", "refused"]] = {
        "again": "pending",
        "arrived": "accepted",
        "dropped": "refused",
    }
    targets = tuple(
        replace(target, state=states[word], doubtful=word == "again")
        if target in doubtful
        else target
        for target in before.targets
    )
    left = before.left or word == "arrived"
    waits = any(target.state == "pending" for target in targets)
    verdict = Verdict(
        state="sent" if left else "accepted",
        targets=targets,
        due=now if waits else None,
        failures=0,
        # Of those who still wait, a person who says `dropped` has left nobody in doubt.
        unknowns=0 if word == "dropped" else before.unknowns,
        tell_sent=word == "arrived" and not before.left,
    )
    return verdict if left or waits else _dropped(verdict, doubtful)


def _doubtful(before: Before) -> tuple[Target, ...]:
    """Of whom nobody knows. An earlier version did not write it down."""
    for meant in (
        lambda target: target.doubtful,
        lambda target: target.state == "pending",
        lambda target: target.state == "refused",
    ):
        if found := tuple(filter(meant, before.targets)):
            return found
    return ()


def _dropped(verdict: Verdict, doubtful: Collection[Target]) -> Verdict:
    """Of the doubtful ones it was told when they were held."""
    known = {target.address for target in doubtful}
    refused = tuple(target for target in verdict.targets if target.address not in known)
    failed: FailedReason | None = "refused" if refused else None
    return replace(verdict, state="failed", failed=failed, told=refused)
