"""How the directory is printed: a table for people, one JSON object a line for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Rows under headings, each column as wide as its widest cell."""
    cells = [[column.replace("_", " ").upper() for column in columns]]
    cells += [[_words(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def as_lines(row: Mapping[str, Any]) -> list[str]:
    """One thing, a field a line."""
    width = max(len(name) for name in row)
    return [
        f"{name.replace('_', ' '):<{width}}  {_words(value)}".rstrip()
        for name, value in row.items()
    ]


def as_json(row: Mapping[str, Any]) -> str:
    """One thing as a JSON object; times in ISO 8601."""
    return json.dumps(row, ensure_ascii=False, default=_plain)


def show_many(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, json_: bool) -> None:
    """Print a list."""
    if json_:
        lines = [as_json(row) for row in rows]
    else:
        lines = as_table(rows, columns) if rows else ["none"]
    for line in lines:
        click.echo(line)


def show_one(row: Mapping[str, Any], *, json_: bool) -> None:
    """Print one thing with all its fields."""
    click.echo(as_json(row) if json_ else "\n".join(as_lines(row)))


def _words(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M UTC")
        case list() | tuple():
            return ", ".join(_words(item) for item in value) or "-"
    return str(value) or "-"


def _plain(value: Any) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
