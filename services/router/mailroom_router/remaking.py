"""What the router wrote, made again from the mails that it was made of.

Invariant: an object is what its hash says. If this version reads a mail otherwise than the one that
wrote the object, the old one is not there again, and that is told.
"""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import ObjectRef
from mailroom.objects import ObjectFault, ObjectStore, size
from mailroom_router import reading
from mailroom_router.settings import RouterSettings
from mailroom_router.store import placement


async def mend(
    tx: AsyncConnection, settings: RouterSettings, store: ObjectStore, damaged: Mapping[str, str]
) -> Mapping[str, str]:
    """For `mailroom objects check --repair`: read the mails again."""
    found = select(placement.c.parsed, placement.c.raw).where(placement.c.parsed.in_(damaged))
    raws = {row.parsed: row.raw for row in await tx.execute(found.distinct())}
    return {
        parsed: await _made_again(store, parsed, raw, settings.reading_seconds)
        for parsed, raw in raws.items()
    }


async def _made_again(store: ObjectStore, parsed: str, raw: str, seconds: float) -> str:
    try:
        ref = ObjectRef(sha256=raw, size=size(store, raw))
        (made,) = await reading.read(store, [ref], seconds)
    except (ObjectFault, reading.MailUnread) as failed:
        return f"not made again: {failed}"
    if made.parsed.sha256 != parsed:
        return f"not made again: this version reads object {raw} otherwise; restore a backup"
    return f"made again from object {raw}"
