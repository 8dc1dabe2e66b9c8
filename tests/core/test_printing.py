"""How things are printed: for people on a terminal, and for programs."""

import json
from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

import pytest

from mailroom.printing import as_json, fields, one_line, table, visible

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROW = {
    "name": "service",
    "last_seen": NOON,
    "enabled": True,
    "owner": None,
    "groups": ["a", "b"],
    "problem": "no\x1b[2J\n\tlogin",
}


@pytest.mark.parametrize(
    "wild",
    ["\x1b", "\x07", "\x7f", "\x9b", "\r", "\u061c", "\u200f", "\u2028", "\u202e", "\u2066"],
)
def test_what_drives_a_terminal_is_shown_as_a_dot(wild: str) -> None:
    assert visible(f"a{wild}[2Jb") == "a·[2Jb"
    assert wild not in one_line(f"a{wild}[2Jb")
    assert wild not in as_json({"subject": wild})


def test_new_lines_and_tabs_stay_but_in_one_line() -> None:
    assert visible("a\r\n\tb") == "a\n\tb"
    assert one_line("a\r\n\tb ") == "a b"


def test_rows_are_a_table_under_headings() -> None:
    lines = list(table([ROW], ["name", "last_seen", "enabled", "owner", "groups", "problem"]))
    assert lines == [
        "NAME     LAST SEEN                ENABLED  OWNER  GROUPS  PROBLEM",
        "service  2026-03-02 12:00:00 UTC  yes      -      a, b    no·[2J login",
    ]
    assert list(table([ROW])) == lines, "all columns, where none are named"
    assert list(table([])) == ["none"]


def test_one_thing_is_a_field_a_line() -> None:
    told = {"name": "x", "last_seen": NOON, "groups": [], "note": ""}
    assert list(fields(told)) == [
        "name       x",
        "last seen  2026-03-02 12:00:00 UTC",
        "groups     -",
        "note       -",
    ]


def test_a_program_gets_iso_times_and_ids() -> None:
    id_ = uuid5(NAMESPACE_OID, "x")
    assert json.loads(as_json({"at": NOON, "id": id_})) == {
        "at": "2026-03-02T12:00:00+00:00",
        "id": str(id_),
    }
