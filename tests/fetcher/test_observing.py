"""When and how it is told how an account fares."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prometheus_client import REGISTRY

from mailroom_fetcher import observing
from mailroom_fetcher.ledger import ParkedMails
from mailroom_fetcher.standing import Standing, to_tell, words_for

NOW = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
OK = Standing("ok", "", NOW, NOW)
FAILING = Standing("failing", "wrong password", NOW, NOW)
SOON = NOW + timedelta(minutes=1)


def test_the_first_observation_is_told() -> None:
    assert to_tell(None, "", NOW) == OK


def test_what_is_as_before_is_not_told_again() -> None:
    assert to_tell(OK, "", SOON) is None
    assert to_tell(FAILING, "wrong password", SOON) is None


def test_a_change_is_told_with_the_time_since_when() -> None:
    assert to_tell(OK, "wrong password", SOON) == Standing("failing", "wrong password", SOON, SOON)
    assert to_tell(FAILING, "", SOON) == Standing("ok", "", SOON, SOON)


def test_other_words_for_a_failing_account_are_told_and_it_fails_since_before() -> None:
    told = to_tell(FAILING, "connection refused", SOON)
    assert told == Standing("failing", "connection refused", NOW, SOON)


def test_it_is_told_once_an_hour_all_the_same() -> None:
    later = NOW + timedelta(hours=1)
    assert to_tell(OK, "", later) == Standing("ok", "", NOW, later)


def test_it_is_told_at_once_when_it_was_last_told_at_a_time_that_is_still_to_come() -> None:
    put_back = NOW - timedelta(hours=1)
    assert to_tell(OK, "", put_back) == Standing("ok", "", NOW, put_back)


def test_problems_of_folders_and_parked_mails_are_told_together() -> None:
    parked = ParkedMails(2, "INBOX", 7, "not delivered")
    words = words_for(["no folder 'Old'"], parked)
    assert words == (
        "no folder 'Old'; 2 mails are waited for, the first is UID 7 in 'INBOX': not delivered"
    )
    assert words_for([], None) == ""


def test_metrics_name_a_bounded_number_of_failing_accounts() -> None:
    accounts = [uuid4() for _ in range(observing.NAMES + 50)]
    for account in accounts:
        observing.show(account, str(account), "failing")
    assert _named() == observing.NAMES
    assert _count("failing") == len(accounts)
    for account in accounts:
        observing.hide(account)
    assert (_named(), _count("failing")) == (0, 0)


def test_metrics_follow_an_account_that_heals() -> None:
    account = uuid4()
    observing.show(account, "service", "failing")
    observing.show(account, "service", "ok")
    assert (_named(), _count("failing"), _count("ok")) == (0, 0, 1)
    observing.hide(account)
    observing.hide(account)
    assert _count("ok") == 0


def _named() -> int:
    (metric,) = observing.FAILING.collect()
    return len(metric.samples)


def _count(state: str) -> float:
    return REGISTRY.get_sample_value("mailroom_fetcher_accounts", {"state": state}) or 0
