from datetime import UTC, datetime, timedelta
from uuid import uuid4

from mailroom.contracts import AccountObserved
from mailroom_directory import states
from mailroom_directory.states import State

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FAILING = State("failing", "wrong password", NOON, NOON, mails=7)


def observed(at: datetime, problem: str = "") -> AccountObserved:
    state = "failing" if problem else "ok"
    return AccountObserved(
        account=ACCOUNT, state=state, problem=problem, since=at, observed_at=at, mails=1
    )


ACCOUNT = uuid4()


def test_the_newest_observation_counts_whatever_the_order() -> None:
    old, new = observed(NOON, "wrong password"), observed(NOON + timedelta(minutes=1))
    assert states.newest([old, new]) == states.newest([new, old]) == {ACCOUNT: new}


def test_the_state_is_told_in_words() -> None:
    def words(state: State | None, *, enabled: bool = True) -> str:
        return states.in_words(state, enabled=enabled, at=NOON + timedelta(minutes=5))

    assert words(None) == "never seen"
    assert words(State("ok", "", NOON, NOON, mails=7)) == "ok"
    assert words(FAILING) == "failing since 2026-01-02 12:00 UTC: wrong password"
    assert words(FAILING, enabled=False) == "disabled"


def test_an_account_nobody_looks_after_is_not_called_ok() -> None:
    later = NOON + timedelta(hours=3)
    words = states.in_words(State("ok", "", NOON, NOON, mails=7), enabled=True, at=later)
    assert words == "not heard of since 2026-01-02 12:00 UTC: is the fetcher running?"
