from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.directory.model import Folder
from mailroom_directory import accounts
from mailroom_directory.accounts import AccountSettings
from mailroom_directory.fields import FieldRefused

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)  # a Friday
UTC_ZONE = ZoneInfo("UTC")
SETTINGS = AccountSettings("service", "service@example.com", start=NOON)


def test_settings_with_defaults_hold() -> None:
    assert accounts.checked(SETTINGS, NOON) == SETTINGS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a b"}, "NAME"),
        ({"address": "service"}, "--address"),
        ({"display_name": "a\nb"}, "--display-name"),
        ({"sent_folder": "a\r\nb"}, "--sent-folder"),
        ({"interval_seconds": 4}, "--interval"),
        ({"interval_seconds": -1}, "--interval"),
        ({"interval_seconds": 86401}, "--interval"),
        ({"timezone": "Mars/Olympus"}, "--timezone"),
        ({"timezone": "../../etc/passwd"}, "--timezone"),
        ({"timezone": "Europe"}, "--timezone"),
        ({"calendar": "0 0 30 2 *"}, "--calendar"),
    ],
)
def test_each_wrong_setting_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldRefused) as refused:
        accounts.checked(replace(SETTINGS, **change), NOON)
    assert refused.value.field == field


def test_five_seconds_are_the_shortest_interval() -> None:
    assert accounts.interval(5) == 5


def test_monday_to_friday_seven_to_nineteen_every_two_minutes_is_a_calendar() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    friday_evening = datetime(2026, 1, 2, 19, 59, tzinfo=berlin)
    fires = accounts.calendar("*/2 7-19 * * MON-FRI", berlin, friday_evening)
    assert fires == datetime(2026, 1, 5, 7, 0, tzinfo=berlin)


@pytest.mark.parametrize("never", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_calendar_that_never_fires_is_refused(never: str) -> None:
    with pytest.raises(FieldRefused, match="never fires"):
        accounts.calendar(never, UTC_ZONE, NOON)


def test_a_calendar_of_seconds_is_refused_for_it_would_go_below_the_shortest_interval() -> None:
    with pytest.raises(FieldRefused, match="five fields"):
        accounts.calendar("* * * * * *", UTC_ZONE, NOON)


@given(st.lists(st.text("0123456789*/,-#L WMONFRI"), min_size=5, max_size=5).map(" ".join))
def test_whatever_is_given_as_a_calendar_fires_or_is_refused(expression: str) -> None:
    try:
        assert accounts.calendar(expression, UTC_ZONE, NOON) > NOON
    except FieldRefused:
        return


def test_a_start_without_a_zone_is_in_the_accounts_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert accounts.start("2026-01-31", berlin) == datetime(2026, 1, 30, 23, tzinfo=UTC)
    assert accounts.start("2026-01-31T00:00Z", berlin) == datetime(2026, 1, 31, tzinfo=UTC)


def test_a_start_that_is_no_date_is_refused() -> None:
    with pytest.raises(FieldRefused, match="2026-01-31"):
        accounts.start("yesterday", UTC_ZONE)


def test_folders_have_roles_and_an_empty_value_means_the_usual_ones() -> None:
    assert accounts.folders(["INBOX", "Archive/2026=archive", "a=b=other", "Projects"]) == (
        Folder("INBOX", "inbox"),
        Folder("Archive/2026", "archive"),
        Folder("a=b", "other"),
        Folder("Projects", "other"),
    )
    assert accounts.folders([""]) == ()


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("Archive=archiv", "one of inbox"), ("=sent", "name the folder"), ("a\nb", "printable")],
)
def test_a_folder_without_name_or_with_an_unknown_role_is_refused(value: str, remedy: str) -> None:
    with pytest.raises(FieldRefused, match=remedy):
        accounts.folders([value])


def test_a_folder_named_twice_is_refused() -> None:
    with pytest.raises(FieldRefused, match="twice"):
        accounts.folders(["A=archive", "A=other"])
