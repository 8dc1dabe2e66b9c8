"""How accounts fare, from what the fetcher observed.

Invariant: of several observations the newest counts, whatever order they come in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mailroom.contracts import AccountObserved

SILENT_AFTER = timedelta(hours=2)
"""The fetcher tells once an hour; who has not been heard of for two is not looked after."""
CLOCKS_DIFFER = timedelta(minutes=5)
"""What was observed later than this from now was observed before the clock was put back."""


@dataclass(frozen=True)
class State:
    """The last that was observed of an account."""

    state: str
    problem: str
    since: datetime
    observed_at: datetime
    mails: int


def newest(observations: Iterable[AccountObserved]) -> dict[UUID, AccountObserved]:
    """The newest observation of each account."""
    return {
        observed.account: observed
        for observed in sorted(observations, key=lambda observed: observed.observed_at)
    }


def in_words(state: State | None, *, enabled: bool, at: datetime) -> str:
    """What `mailroom account list` says: ok, failing since … : problem, never seen, disabled."""
    if not enabled:
        return "disabled"
    if state is None:
        return "never seen"
    if at - state.observed_at > SILENT_AFTER:
        return f"not heard of since {_moment(state.observed_at)}: is the fetcher running?"
    if state.state == "ok":
        return "ok"
    return f"failing since {_moment(state.since)}: {state.problem}"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
