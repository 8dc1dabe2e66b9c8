"""Copies to file in Sent folders, in the database.

Invariant: `tries` is committed before an APPEND may be made. A copy with tries is looked for on the
server before another APPEND; one without was never appended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    Text,
    Uuid,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.arrays import rows_of
from mailroom.messaging.envelope import Outgoing
from mailroom_sender import loading
from mailroom_sender import requests as events
from mailroom_sender.tables import copies, requests

Place = tuple[str, int | None, int | None]
"""Folder, UIDVALIDITY, UID."""


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


# Built once: docs/decisions/statements-are-built-once.md.
_DUE = (
    select(
        copies.c.mail,
        requests.c.message_id,
        requests.c.raw_sha256,
        requests.c.sent_at,
        copies.c.tries,
        copies.c.created_at,
    )
    .join(requests, requests.c.mail == copies.c.mail)
    .where(copies.c.account == bindparam("of"), copies.c.due <= bindparam("now"))
    .order_by(copies.c.due, copies.c.mail)
    .limit(bindparam("limit", type_=Integer))
)
_MAILS = rows_of("mails", Uuid)
_LOCKED = (
    select(copies.c.mail)
    .join(_MAILS, copies.c.mail == _MAILS.c.value)
    .order_by(copies.c.mail)
    .with_for_update(of=copies)
)
_BEGIN = update(copies).where(copies.c.mail.in_(_LOCKED)).values(tries=copies.c.tries + 1)
_THERE = (
    func.unnest(
        bindparam("mails", type_=ARRAY(Uuid)),
        bindparam("folders", type_=ARRAY(Text)),
        bindparam("uidvalidities", type_=ARRAY(BigInteger)),
        bindparam("uids", type_=ARRAY(BigInteger)),
    )
    .table_valued("mail", "folder", "uidvalidity", "uid", name="there")
    .render_derived()
)
_FILED = (
    update(copies)
    .where(copies.c.mail == _THERE.c.mail, copies.c.state == "due")
    .values(
        state="filed",
        due=None,
        ended_at=bindparam("now"),
        problem="",
        folder=_THERE.c.folder,
        uidvalidity=_THERE.c.uidvalidity,
        uid=_THERE.c.uid,
    )
    .returning(copies.c.mail)
)


async def due(tx: AsyncConnection, account: UUID, now: datetime, limit: int) -> list[Copy]:
    """Copies of an account to file now, the longest due first."""
    rows = await tx.execute(_DUE, {"of": account, "now": now, "limit": limit})
    return [Copy(*row) for row in rows]


async def begin(tx: AsyncConnection, batch: Sequence[Copy]) -> None:
    """To commit before the first APPEND of these."""
    await tx.execute(_BEGIN, {"mails": [copy.mail for copy in batch]})


async def filed(
    tx: AsyncConnection, places: Sequence[tuple[Copy, Place]], now: datetime
) -> list[Outgoing]:
    """They lie there; the events that tell it, of those of which it was not told before."""
    there = {copy.mail: place for copy, place in places}
    rows = [(mail, *place) for mail, place in sorted(there.items())]
    mails, folders, uidvalidities, uids = (list(column) for column in zip(*rows, strict=True))
    given = {"mails": mails, "folders": folders, "uidvalidities": uidvalidities, "uids": uids}
    told = await tx.scalars(_FILED, {**given, "now": now})
    return [
        Outgoing(events.filed(request, *there[request.mail]), request.correlation_id)
        for request in await loading.by_mails(tx, told.all())
    ]


async def put_off(
    tx: AsyncConnection, copy: Copy, again: datetime | None, problem: str, now: datetime
) -> None:
    """Try again then; None gives it up."""
    end = {"state": "given_up", "due": None, "ended_at": now} if again is None else {"due": again}
    await tx.execute(
        update(copies)
        .where(copies.c.mail == copy.mail, copies.c.state == "due")
        .values(problem=problem, **end)
    )
