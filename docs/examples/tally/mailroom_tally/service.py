"""The tally, whole: each mail that comes into a central mailbox counts for its sender."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import MailRouted
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.service import Resources, Service, Subscription
from mailroom_tally import store
from mailroom_tally.settings import TallySettings


async def count(
    tx: AsyncConnection,
    events: Sequence[Received[MailRouted]],
    _resources: Resources[TallySettings],
) -> Sequence[Outgoing]:
    """One more for the sender of each mail that came in."""
    mails = [received.event for received in events if received.event.direction == "in"]
    senders = Counter(sender.address.lower() for mail in mails for sender in mail.from_)
    await store.add(tx, senders)
    return ()


SERVICE = Service(
    name="tally",
    settings=TallySettings,
    metadata=store.metadata,
    messaging=store.messaging,
    subscriptions=(Subscription(MailRouted, count, keys=("mail.routed.central",)),),
)
