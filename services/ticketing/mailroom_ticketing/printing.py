"""How tickets are printed: lines for people, one JSON object a line for programs.

Invariant: what strangers wrote cannot drive a person's terminal: control characters, and those that
turn the direction of writing, are shown as a dot.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from mailroom_ticketing.dialogue import Claim, Dialogue, Entry, written
from mailroom_ticketing.store import as_address

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text from a mail, fit for a terminal; only new lines and tabs stay."""
    return _CONTROL.sub("·", text.replace("\r\n", "\n"))


def as_json(value: Mapping[str, Any]) -> str:
    """One JSON object; times in ISO 8601."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Rows under the names of their fields, each column as wide as its widest cell."""
    if not rows:
        yield "none"
        return
    cells = [[name.upper() for name in rows[0]]]
    cells += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def fields(row: Mapping[str, Any]) -> Iterator[str]:
    """One thing, a field a line."""
    width = max(map(len, row))
    for name, value in row.items():
        yield f"{name.replace('_', ' '):<{width}}  {_cell(value)}".rstrip()


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case list():
            return ", ".join(map(_cell, value)) or "-"
    return visible(str(value)).replace("\n", " ")


def ticket_row(row: RowMapping) -> dict[str, Any]:
    """A ticket in a list."""
    customer = as_address(row["customer"])
    return {
        "number": row["number"],
        "state": row["state"],
        "priority": row["priority"],
        "queue": row["queue_name"],
        "customer": customer.address if customer else "",
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "subject": row["subject"],
    }


def ticket_fields(shown: Dialogue, tag: str) -> dict[str, Any]:
    """What is said of a ticket before its dialogue."""
    ticket = shown.ticket
    return {
        "number": ticket.number,
        "tag": tag,
        "state": ticket.state,
        "priority": ticket.priority,
        "queue": ticket.queue.name,
        "customer": written(ticket.customer),
        "subject": ticket.subject,
        "created_at": ticket.created_at,
        "updated_at": ticket.updated_at,
        "participants": sorted(ticket.participants),
    }


def dialogue_json(shown: Dialogue, tag: str, texts: Mapping[str, str]) -> str:
    """The whole dialogue as one JSON object. `texts`: SHA-256 of raw bytes → text."""
    entries = [asdict(each) | {"text": _text(each, texts)} for each in shown.entries]
    suggestions = [asdict(each) for each in shown.claims]
    return as_json(ticket_fields(shown, tag) | {"dialogue": entries, "suggestions": suggestions})


def dialogue_lines(shown: Dialogue, tag: str, texts: Mapping[str, str]) -> Iterator[str]:
    """The whole dialogue for a person."""
    yield from fields(ticket_fields(shown, tag))
    for each in shown.entries:
        yield ""
        yield from _entry(each, _text(each, texts))
    if shown.claims:
        yield ""
        yield "suggestions: no rule may decide these, a person can"
        yield from _claims(shown.claims, shown.ticket.number)


def _entry(entry: Entry, text: str) -> Iterator[str]:
    way = "<-" if entry.direction == "in" else "->"
    kind = "" if entry.kind == "mail" else f"  ({entry.kind})"
    who = entry.sender if entry.direction == "in" else f"to {', '.join(entry.recipients)}"
    yield f"{way} {moment(entry.at)}  {_cell(who)}{kind}"
    yield f"   subject: {_cell(entry.subject)}"
    yield f"   {'here because' if entry.mail else 'not left:'} {_cell(entry.why)}"
    if entry.message_id:
        yield f"   Message-ID: {_cell(entry.message_id)}"
    for fact in entry.told:
        yield f"   {fact.what} {moment(fact.at)}: {_cell(fact.words)}"
    yield ""
    for line in visible(text).strip().splitlines():
        yield f"   | {line}".rstrip()


def _text(entry: Entry, texts: Mapping[str, str]) -> str:
    if entry.raw is None:
        return entry.text or ""
    return texts[entry.raw]


def _claims(claims: Iterable[Claim], number: int) -> Iterator[str]:
    for each in claims:
        here = f"may belong to ticket {each.perhaps_of}"
        if each.perhaps_of == number:
            where = f"of ticket {each.at_ticket}" if each.at_ticket else "of no ticket"
            here = f"{where} may belong here"
        yield f"   mail {each.mail} from {_cell(each.sender)} {here}: {_cell(each.why)}"
