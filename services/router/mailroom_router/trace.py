"""What the router knows of one mail: when it came, why it is where it is, and by what it was known.

Invariant: everything told here was committed with the decision; nothing is decided anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import directory
from mailroom.contracts import MAIL_HEADER
from mailroom.service import TraceKeys, TraceStep
from mailroom_router.store import arrival, own_mail

KNOWN_BY = {
    "header": f"its header {MAIL_HEADER}, in a Sent folder, names the mail that we sent",
    "fingerprint": "Message-ID, From, Date and text are those of a mail that is known",
}

TOLD_BEFORE = "; it has its place in this mailbox already"


async def trace(conn: AsyncConnection, keys: TraceKeys) -> tuple[TraceKeys, Sequence[TraceStep]]:
    """Further keys of the mail, and a step for each arrival and for `mail.sent`."""
    own = await _rows(conn, own_mail, keys)
    arrivals = await _rows(conn, arrival, keys)
    names = {mailbox.id: mailbox.name for mailbox in await directory.mailboxes(conn)}
    steps = [step for row in arrivals for step in _steps(row, names)]
    return _keys([*own, *arrivals]), [*(_registered(row) for row in own), *steps]


async def _rows(conn: AsyncConnection, table: Table, keys: TraceKeys) -> Sequence[RowMapping]:
    wanted = or_(
        table.c.message_id.in_(keys.message_ids),
        table.c.mail.in_(keys.mails),
        table.c.correlation_id.in_(keys.correlation_ids),
    )
    return (await conn.execute(select(table).where(wanted))).mappings().all()


def _keys(rows: Iterable[RowMapping]) -> TraceKeys:
    found = list(rows)
    return TraceKeys(
        message_ids=frozenset(row["message_id"] for row in found if row["message_id"]),
        mails=frozenset(row["mail"] for row in found),
        correlation_ids=frozenset(row["correlation_id"] for row in found),
    )


def _registered(row: RowMapping) -> TraceStep:
    why = "mail.sent gave its fingerprint the mail id of our own mail"
    return TraceStep(row["known_at"], "router", "registered", why, {"mail": str(row["mail"])})


def _steps(row: RowMapping, names: Mapping[UUID, str]) -> list[TraceStep]:
    mail = {"mail": str(row["mail"])}
    steps = []
    if row["known_by"]:
        why = KNOWN_BY[row["known_by"]] + ("" if row["told"] else TOLD_BEFORE)
        steps.append(TraceStep(row["routed_at"], "router", "known again", why, mail))
    if row["told"]:
        detail: dict[str, Any] = mail | {
            "mailbox": names.get(row["mailbox"], str(row["mailbox"])),
            "placement": str(row["placement"]),
            "rule": row["rule"],
        }
        if row["defects"]:
            detail["defects"] = "; ".join(row["defects"])
        steps.append(TraceStep(row["routed_at"], "router", "routed", row["reason"], detail))
    return steps
