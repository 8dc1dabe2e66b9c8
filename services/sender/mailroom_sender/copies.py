"""Copies to file in Sent folders, in the database.

Invariant: `tries` is committed before an APPEND may be made. A copy with tries is looked for on the
server before another APPEND; one without was never appended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging.envelope import Outgoing
from mailroom_sender import requests as events
from mailroom_sender import store
from mailroom_sender.tables import copies, requests


@dataclass(frozen=True)
class Copy:
    """A copy that is to be filed."""

    mail: UUID
    message_id: str
    raw_sha256: str
    sent_at: datetime
    tries: int
    """Before this one."""
    created_at: datetime


async def due(tx: AsyncConnection, account: UUID, now: datetime, limit: int) -> list[Copy]:
    """Copies of an account to file now, the longest due first."""
    rows = await tx.execute(
        select(
            copies.c.mail,
            requests.c.message_id,
            requests.c.raw_sha256,
            requests.c.sent_at,
            copies.c.tries,
            copies.c.created_at,
        )
        .join(requests, requests.c.mail == copies.c.mail)
        .where(copies.c.account == account, copies.c.due <= now)
        .order_by(copies.c.due, copies.c.mail)
        .limit(limit)
    )
    return [Copy(*row) for row in rows]


async def begin(tx: AsyncConnection, batch: Sequence[Copy]) -> None:
    """To commit before the first APPEND of these."""
    mails = [copy.mail for copy in batch]
    await tx.execute(
        update(copies).where(copies.c.mail.in_(mails)).values(tries=copies.c.tries + 1)
    )


async def filed(
    tx: AsyncConnection,
    copy: Copy,
    place: tuple[str, int | None, int | None],
    now: datetime,
) -> list[Outgoing]:
    """It lies in folder, UIDVALIDITY, UID; the events that tell it, none if they were told."""
    folder, uidvalidity, uid = place
    ended = await _end(
        tx, copy, now, state="filed", folder=folder, uidvalidity=uidvalidity, uid=uid, problem=""
    )
    request = await store.get(tx, copy.mail)
    if not ended or request is None:
        return []
    event = events.filed(request, folder, uidvalidity, uid)
    return [Outgoing(event, request.correlation_id)]


async def put_off(
    tx: AsyncConnection, copy: Copy, again: datetime | None, problem: str, now: datetime
) -> None:
    """Try again then; None gives it up."""
    if again is None:
        await _end(tx, copy, now, state="given_up", problem=problem)
        return
    await tx.execute(
        update(copies)
        .where(copies.c.mail == copy.mail, copies.c.state == "due")
        .values(due=again, problem=problem)
    )


async def _end(tx: AsyncConnection, copy: Copy, now: datetime, **values: Any) -> bool:
    ended = await tx.execute(
        update(copies)
        .where(copies.c.mail == copy.mail, copies.c.state == "due")
        .values(due=None, ended_at=now, **values)
    )
    return ended.rowcount == 1
