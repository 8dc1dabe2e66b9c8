"""What the sender knows of a mail: how it was asked for, each try, and where its copy lies."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.service import TraceKeys, TraceStep
from mailroom_sender.tables import attempts, bounces, copies, requests

STEPS = {"accepted": "sent", "refused": "refused", "unreachable": "deferred", "unknown": "unknown"}
"""An attempt's outcome, as a step."""


async def trace(conn: AsyncConnection, keys: TraceKeys) -> tuple[TraceKeys, Sequence[TraceStep]]:
    """The steps of all mails that are known by these keys, and further keys."""
    rows = (
        await conn.execute(
            select(requests).where(
                or_(
                    requests.c.mail.in_(keys.mails),
                    requests.c.message_id.in_(keys.message_ids),
                    requests.c.correlation_id.in_(keys.correlation_ids),
                )
            )
        )
    ).all()
    wider = TraceKeys(
        message_ids=frozenset(row.message_id for row in rows),
        mails=frozenset(row.mail for row in rows),
        correlation_ids=frozenset(row.correlation_id for row in rows),
    )
    steps = [
        TraceStep(
            row.accepted_at,
            "sender",
            "accepted",
            f"{row.publisher} asked for it",
            {"mail": str(row.mail), "key": row.idempotency_key, "message_id": row.message_id},
        )
        for row in rows
    ]
    steps += [
        TraceStep(row.ended_at, "sender", row.state, "", {"mail": str(row.mail)})
        for row in rows
        if row.ended_at and row.state in ("failed", "cancelled")
    ]
    mails = list(wider.mails)
    return wider, [
        *steps,
        *await _attempts(conn, mails),
        *await _copies(conn, mails),
        *await _bounces(conn, mails),
    ]


async def _attempts(conn: AsyncConnection, mails: Sequence[object]) -> list[TraceStep]:
    rows = await conn.execute(select(attempts).where(attempts.c.mail.in_(mails)))
    return [
        TraceStep(
            row.ended_at or row.started_at,
            "sender",
            STEPS.get(row.outcome, "sending"),
            row.reply,
            {"mail": str(row.mail), "try": str(row.number)},
        )
        for row in rows
    ]


async def _copies(conn: AsyncConnection, mails: Sequence[object]) -> list[TraceStep]:
    rows = await conn.execute(select(copies).where(copies.c.mail.in_(mails)))
    return [
        TraceStep(
            row.ended_at or row.created_at,
            "sender",
            {"filed": "filed", "given_up": "not filed"}.get(row.state, "to be filed"),
            row.problem,
            {"mail": str(row.mail), "folder": row.folder or "", "uid": str(row.uid or "")},
        )
        for row in rows
    ]


async def _bounces(conn: AsyncConnection, mails: Sequence[object]) -> list[TraceStep]:
    rows = await conn.execute(select(bounces).where(bounces.c.mail.in_(mails)))
    return [
        TraceStep(
            row.bounced_at,
            "sender",
            "bounced",
            f"{row.recipient}: {row.action} {row.status}",
            {"mail": str(row.mail), "report": str(row.report)},
        )
        for row in rows
    ]
