"""Cancelling what has not left, whichever of request and cancellation comes first.

Invariant: both take the lock of their key, so that one of them sees the other.
"""

from collections.abc import Sequence

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.contracts import MailCancel
from mailroom.messaging.envelope import Outgoing, Received
from mailroom_sender import loading, outcomes, store
from mailroom_sender.requests import Request
from mailroom_sender.settling import apply
from mailroom_sender.validation import has_control

CANCELLED = Counter("mailroom_sender_cancelled_total", "mails that were cancelled before they left")


async def cancel_by_key(
    tx: AsyncConnection, commands: Sequence[Received[MailCancel]]
) -> list[Outgoing]:
    """Cancel what is waiting; remember what has not come yet. Late ones change nothing."""
    keys = dict.fromkeys(
        (command.publisher, command.event.idempotency_key)
        for command in commands
        # No request has such a key: it would have been rejected.
        if not has_control(command.event.idempotency_key)
    )
    await store.lock_keys(tx, keys)
    found = await loading.by_key(tx, keys, lock=True)
    await store.insert_cancellations(tx, [key for key in keys if key not in found], clock.now())
    return [event for request in found.values() for event in await cancel(tx, request)]


async def cancel(tx: AsyncConnection, request: Request) -> list[Outgoing]:
    """Cancel a request whose row is locked, if it has not left; the events that tell of it."""
    verdict = outcomes.cancel(request.state, request.before)
    if verdict is None:
        return []
    CANCELLED.inc(verdict.state == "cancelled")
    return await apply(tx, request, verdict, "")
