"""What is printed of tickets and their dialogues.

Invariant: what strangers wrote cannot drive a person's terminal: it goes through mailroom.printing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from mailroom.printing import as_json, fields, moment, one_line, visible
from mailroom_ticketing.dialogue import Claim, Dialogue, Entry, written
from mailroom_ticketing.store import as_address


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
    yield f"{way} {moment(entry.at)}  {one_line(who)}{kind}"
    yield f"   subject: {one_line(entry.subject)}"
    yield f"   {'here because' if entry.mail else 'not left:'} {one_line(entry.why)}"
    if entry.message_id:
        yield f"   Message-ID: {one_line(entry.message_id)}"
    for fact in entry.told:
        yield f"   {fact.what} {moment(fact.at)}: {one_line(fact.words)}"
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
        yield f"   mail {each.mail} from {one_line(each.sender)} {here}: {one_line(each.why)}"
