"""What commands print: lines for people, one JSON object a line for programs.

Invariant: what strangers wrote cannot drive a person's terminal: control characters, and those that
turn the direction of writing, are shown as a dot, or in JSON by their numbers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """Text that others wrote, fit for a terminal; only new lines and tabs stay."""
    return _CONTROL.sub("·", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same in one line, each run of blanks and new lines as one blank."""
    return visible(" ".join(text.split()))


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Iterator[str]:
    """Rows under headings, each column as wide as its widest cell; all columns, or these."""
    if not rows:
        yield "none"
        return
    names = columns or list(rows[0])
    cells = [[name.replace("_", " ").upper() for name in names]]
    cells += [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def fields(row: Mapping[str, Any]) -> Iterator[str]:
    """One thing, a field a line."""
    width = max(map(len, row))
    for name, value in row.items():
        yield f"{name.replace('_', ' '):<{width}}  {_cell(value)}"


def as_json(value: Mapping[str, Any]) -> str:
    """One JSON object in ASCII; times in ISO 8601."""
    return json.dumps(value, default=_plain)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{moment(value)} UTC"
        case list() | tuple():
            return ", ".join(map(_cell, value)) or "-"
    return one_line(str(value)) or "-"


def _plain(value: Any) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
