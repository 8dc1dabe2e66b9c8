"""Ticketing: which queue leads to which handler.

`mail.routed.central` → a ticket, and perhaps an acknowledgement as `mail.send`; `mail.sent`,
`.filed`, `.failed`, `.rejected` → what became of it.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.contracts import (
    MailFailed,
    MailFiled,
    MailRejected,
    MailRouted,
    MailSend,
    MailSent,
)
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.service import Resources, Service, Subscription
from mailroom_ticketing import arrivals, loading, recording, store
from mailroom_ticketing.composing import acknowledgements
from mailroom_ticketing.matching import numbers
from mailroom_ticketing.observing import tell
from mailroom_ticketing.outcomes import outcomes
from mailroom_ticketing.settings import TicketingSettings
from mailroom_ticketing.tickets import decide
from mailroom_ticketing.trace import trace


async def open_or_join(
    tx: AsyncConnection,
    events: Sequence[Received[MailRouted]],
    resources: Resources[TicketingSettings],
) -> Sequence[Outgoing]:
    """A routed mail opens a ticket, joins one, or is noted; a new ticket is acknowledged."""
    now, ring = clock.now(), resources.settings.ring
    arrived = await arrivals.routed(events, resources.objects)
    mails = [mail for mail, _ in arrived]
    known = await loading.load(tx, mails, numbers(mails, ring), now)
    decided = [one for mail, place in arrived for one in decide(known, mail, place, ring, now)]
    await recording.record(tx, known, decided, now)
    requests = acknowledgements(decided, ring, now)
    await store.add_requests(tx, requests)
    tell(decided, now)
    return [Outgoing(each.send, each.correlation_id) for each in requests]


async def record_sent(
    tx: AsyncConnection,
    events: Sequence[Received[MailSent]],
    resources: Resources[TicketingSettings],
) -> Sequence[Outgoing]:
    """A mail of ours left: it is part of its ticket, and its Message-ID leads there."""
    now, ring = clock.now(), resources.settings.ring
    ours = arrivals.of_tickets(events)
    left = arrivals.departures(ours, await store.senders(tx), await store.asked_at(tx, ours))
    wanted = {each.number for each in left}
    known = await loading.load(tx, [each.mail for each in left], wanted, now)
    decided = [one for each in left for one in arrivals.depart(known, each, ring, now)]
    await recording.record(tx, known, decided, now)
    await store.add_outcomes(tx, outcomes(ours, now))
    tell(decided, now)
    return ()


async def record_outcome(
    tx: AsyncConnection, events: Sequence[Received[Any]], _resources: Resources[TicketingSettings]
) -> Sequence[Outgoing]:
    """What became of a mail of ours, for `ticket show` and `trace`."""
    await store.add_outcomes(tx, outcomes(arrivals.of_tickets(events), clock.now()))
    return ()


SERVICE = Service(
    name=arrivals.PUBLISHER,
    settings=TicketingSettings,
    metadata=store.metadata,
    messaging=store.messaging,
    publishes=(MailSend,),
    subscriptions=(
        Subscription(MailRouted, open_or_join, keys=("mail.routed.central",)),
        Subscription(MailSent, record_sent),
        Subscription(MailFiled, record_outcome),
        Subscription(MailFailed, record_outcome),
        Subscription(MailRejected, record_outcome),
    ),
    trace=trace,
)
