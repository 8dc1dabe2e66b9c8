"""What the fetcher knows of a mail's way: when and where it arrived.

The fetcher never reads a mail, so it knows none by its Message-ID: the router tells the arrivals.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.service import TraceKeys, TraceStep
from mailroom_fetcher.store import arrivals, folders


async def trace(tx: AsyncConnection, keys: TraceKeys) -> tuple[TraceKeys, Sequence[TraceStep]]:
    """The arrivals among the correlation ids, and those that brought the same bytes again."""
    ids = [UUID(key) for key in keys.correlation_ids if _is_uuid(key)]
    if not ids:
        return TraceKeys(), ()
    found = (
        select(arrivals, folders.c.account, folders.c.name)
        .join(folders, arrivals.c.folder == folders.c.id)
        .where(or_(arrivals.c.id.in_(ids), arrivals.c.joins.in_(ids)))
        .order_by(arrivals.c.received_at)
    )
    return TraceKeys(), [_step(row) for row in (await tx.execute(found)).mappings()]


def _step(row: RowMapping) -> TraceStep:
    detail = {
        "account": str(row["account"]),
        "folder": row["name"],
        "uidvalidity": str(row["uidvalidity"]),
        "uid": str(row["uid"]),
        "arrival": str(row["id"]),
    }
    if row["sha256"]:
        detail |= {"object": row["sha256"], "bytes": str(row["size"])}
    why = row["problem"]
    if row["state"] == "joined":
        why = "its bytes are known from before the folder was renumbered"
    what = "received" if row["state"] == "published" else row["state"]
    if row["backfill"]:
        what += " as backfill"
    return TraceStep(row["received_at"], "fetcher", what, why, detail)


def _is_uuid(key: str) -> bool:
    try:
        UUID(key)
    except ValueError:
        return False
    return True
