"""How an account fares, and when that is news. Pure rules."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from mailroom_fetcher.ledger import ParkedMails

EVERY = timedelta(hours=1)
"""It is told so often though nothing changed: silence means that nobody looks."""
_LONGEST_PROBLEM = 500


@dataclass(frozen=True)
class Standing:
    """How an account fares, as it was last told."""

    state: Literal["ok", "failing"]
    problem: str
    since: datetime
    observed_at: datetime


def to_tell(last: Standing | None, problem: str, now: datetime) -> Standing | None:
    """What is to be told now, if anything; `problem` is empty when all is well."""
    problem = problem[:_LONGEST_PROBLEM]
    state: Literal["ok", "failing"] = "failing" if problem else "ok"
    if last is None or last.state != state:
        return Standing(state, problem, now, now)
    # Also when it was last told at a time that is still to come: the clock was put back.
    if last.problem != problem or not last.observed_at <= now < last.observed_at + EVERY:
        return Standing(state, problem, last.since, now)
    return None


def words_for(problems: list[str], parked: ParkedMails | None) -> str:
    """The problems of folders and parked mails in one sentence; empty when there are none."""
    words = list(problems)
    if parked:
        mails = "1 mail is" if parked.count == 1 else f"{parked.count} mails are"
        first = f"UID {parked.uid} in {parked.folder!r}: {parked.problem}"
        words.append(f"{mails} waited for, the first is {first}")
    return "; ".join(words)
