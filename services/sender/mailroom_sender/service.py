"""The sender, as a table of contents: which queue leads to which handler, and which tasks run."""

from collections.abc import Sequence

from pydantic_core import from_json
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.contracts import (
    DirectoryChanged,
    MailBounced,
    MailCancel,
    MailCancelled,
    MailFailed,
    MailFiled,
    MailRejected,
    MailRouted,
    MailSend,
    MailSent,
)
from mailroom.messaging.envelope import Outgoing, Received, caused_by
from mailroom.service import Refused, Resources, Service, Subscription, Writes
from mailroom_sender import acceptance, bouncing, cancelling, store
from mailroom_sender.filing import file_copies
from mailroom_sender.housekeeping import count_what_waits, forget_old
from mailroom_sender.sending import send_mails
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import requests
from mailroom_sender.trace import trace
from mailroom_sender.validation import has_control
from mailroom_sender.waking import wake

Sender = Resources[SenderSettings]


async def send(
    tx: AsyncConnection, commands: Sequence[Received[MailSend]], resources: Sender
) -> Sequence[Outgoing]:
    """Accept each request, or say what is wrong with it."""
    now, limit = clock.now(), resources.settings.size_limit_mb * 1_000_000
    around = await acceptance.surroundings(tx, resources.objects, commands)
    decisions = acceptance.decide(commands, around, now, limit)
    await store.insert_rejections(tx, decisions.rejected, now)
    accepted = await acceptance.accept(tx, resources.objects, around, decisions.accepted, now)
    cancelled = [one for one in accepted if one.key in around.cancelled]
    events = [event for one in cancelled for event in await cancelling.cancel(tx, one)]
    await wake(tx)
    return [*events, *(caused_by(command, event) for command, event in decisions.rejected)]


async def cancel(
    tx: AsyncConnection,
    commands: Sequence[Received[MailCancel]],
    resources: Sender,  # noqa: ARG001 -- a handler's signature
) -> Sequence[Outgoing]:
    """Cancel what has not left."""
    return await cancelling.cancel_by_key(tx, commands)


async def bounced(
    tx: AsyncConnection, events: Sequence[Received[MailRouted]], resources: Sender
) -> Sequence[Outgoing]:
    """Find the mails of ours that delivery reports tell of."""
    reports = [received for received in events if received.event.auto == "report"]
    return await bouncing.bounce(tx, resources.objects, reports)


async def directory_changed(
    tx: AsyncConnection,
    events: Sequence[Received[DirectoryChanged]],
    resources: Sender,  # noqa: ARG001 -- a handler's signature
) -> Sequence[Outgoing]:
    """An account was changed, perhaps mended: what waits for its server is tried at once."""
    accounts = {received.event.id for received in events if received.event.kind == "account"}
    for account in sorted(accounts):
        await store.account_was_changed(tx, account, clock.now())
    await wake(tx)
    return []


def refuse_request(refused: Refused) -> Sequence[Outgoing]:
    """Tell the publisher of a `mail.send` that is none, by its key if that can be read."""
    event = MailRejected(
        publisher=refused.publisher,
        idempotency_key=readable_key(refused.body),
        event_id=refused.event_id,
        errors=refused.errors,
    )
    return [Outgoing(event, refused.correlation_id)]


def readable_key(body: bytes) -> str | None:
    """The idempotency key of a body that does not fit its contract."""
    try:
        asked = from_json(body)
    except ValueError:
        return None
    key = asked.get("idempotency_key") if isinstance(asked, dict) else None
    return key if isinstance(key, str) and not has_control(key) else None


SERVICE = Service(
    name="sender",
    settings=SenderSettings,
    metadata=store.metadata,
    messaging=store.messaging,
    publishes=(MailSent, MailFiled, MailFailed, MailRejected, MailCancelled, MailBounced, MailSend),
    subscriptions=(
        Subscription(MailSend, send, refuse=refuse_request),
        Subscription(MailCancel, cancel, refuse=refuse_request),
        Subscription(MailRouted, bounced),
        Subscription(DirectoryChanged, directory_changed),
    ),
    tasks=(send_mails, file_copies, count_what_waits, forget_old),
    trace=trace,
    writes=Writes(select(requests.c.raw_sha256).distinct()),
)
