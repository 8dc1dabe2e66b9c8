"""What ticketing did with one mail: what it opened or joined, what was sent, what became of that.

Invariant: everything told here was committed with the decision; nothing is decided anew.
"""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import RowMapping, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.service import TraceKeys, TraceStep
from mailroom_ticketing.mails import key_of
from mailroom_ticketing.store import mail, message_id, outcome, placement, request, suggestion
from mailroom_ticketing.words import claim, why

NAME = "ticketing"
_REQUESTED = {"acknowledgement": "acknowledged", "reply": "answered"}

Rows = Sequence[RowMapping]


async def trace(conn: AsyncConnection, keys: TraceKeys) -> tuple[TraceKeys, Sequence[TraceStep]]:
    """Further keys of the mail, and each step taken with it, its answers, and their outcomes."""
    mails = await _rows(conn, _mails(keys))
    ids = keys.mails | {row["mail"] for row in mails}
    placements = await _rows(conn, _of(keys, placement, ids))
    claims = await _rows(conn, select(suggestion).where(suggestion.c.mail.in_(ids)))
    requests = await _rows(conn, _requests(keys, ids))
    asked = {row["idempotency_key"] for row in requests}
    outcomes = await _rows(conn, select(outcome).where(outcome.c.idempotency_key.in_(asked)))
    found = TraceKeys(
        message_ids=frozenset(row["message_id"] for row in mails if row["message_id"]),
        mails=frozenset(row["mail"] for row in chain(mails, outcomes) if row["mail"]),
        correlation_ids=frozenset(
            row["correlation_id"] for row in chain(mails, placements, requests)
        ),
    )
    return found, [
        *(_ticketed(row) for row in mails if row["ticket"] is not None),
        *(step for row in placements for step in _placed(row)),
        *(_claimed(row) for row in claims),
        *(_requested(row) for row in requests),
        *(_told(row) for row in outcomes),
    ]


async def _rows(conn: AsyncConnection, statement: Select[Any]) -> Rows:
    rows: Rows = (await conn.execute(statement)).mappings().all()
    return rows


def _mails(keys: TraceKeys) -> Select[Any]:
    hashes = [key_of(each) for each in keys.message_ids]
    own = select(message_id.c.mail).where(message_id.c.key.in_(hashes), message_id.c.own)
    return select(mail).where(
        or_(
            mail.c.mail.in_(own),
            mail.c.mail.in_(keys.mails),
            mail.c.correlation_id.in_(keys.correlation_ids),
        )
    )


def _of(keys: TraceKeys, table: Any, ids: Collection[Any]) -> Select[Any]:
    by_correlation = table.c.correlation_id.in_(keys.correlation_ids)
    return select(table).where(or_(table.c.mail.in_(ids), by_correlation))


def _requests(keys: TraceKeys, ids: Collection[Any]) -> Select[Any]:
    told = select(outcome.c.idempotency_key).where(outcome.c.mail.in_(ids))
    return select(request).where(
        or_(
            request.c.answers.in_(ids),
            request.c.idempotency_key.in_(told),
            request.c.correlation_id.in_(keys.correlation_ids),
        )
    )


def _step(at: Any, what: str, told: str, **detail: object) -> TraceStep:
    return TraceStep(at, NAME, what, told, {name: str(value) for name, value in detail.items()})


def _ticketed(row: RowMapping) -> TraceStep:
    what = "opened" if row["rule"] == "opened" else "joined"
    told = why(row["rule"], row["evidence"])
    return _step(row["decided_at"], what, told, ticket=row["ticket"], mail=row["mail"])


def _placed(row: RowMapping) -> list[TraceStep]:
    """What the mail's own row does not tell: other outcomes, and why nothing was sent."""
    if row["outcome"] == "opened" and row["withheld"]:
        at, told = row["decided_at"], row["withheld"]
        return [_step(at, "not acknowledged", told, ticket=row["ticket"])]
    if row["outcome"] in ("opened", "joined"):
        return []
    told = why(row["rule"], row["evidence"])
    return [_step(row["decided_at"], row["outcome"], told, mail=row["mail"])]


def _claimed(row: RowMapping) -> TraceStep:
    told = f"perhaps of ticket {row['ticket']}: {claim(row['claim'], row['evidence'])}"
    return _step(row["suggested_at"], "suggested", told, mail=row["mail"])


def _requested(row: RowMapping) -> TraceStep:
    detail = {"ticket": row["ticket"], "key": row["idempotency_key"]}
    told = f"to {row['send']['to'][0]['address']}"
    return _step(row["requested_at"], _REQUESTED[row["kind"]], told, **detail)


def _told(row: RowMapping) -> TraceStep:
    return _step(row["at"], f"told {row['what']}", row["words"], key=row["idempotency_key"])
