"""The router: each mail is read once, known again, and put into its mailbox with a reason.

mail.received ──► route ──► mail.routed.central | mail.routed.private
mail.sent     ──► register       (our own mail, so that its copies are known)
                  └──► mail.fetch, where the object store has lost a mail's bytes
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from prometheus_client import Counter, Histogram
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, objects
from mailroom.contracts import MailFetch, MailReceived, MailRouted, MailSent
from mailroom.messaging.envelope import Outgoing, Received, caused_by
from mailroom.messaging.failures import RetryLater
from mailroom.service import Resources, Service, Subscription, Writes
from mailroom_router import mails, placing, reading, remaking, store
from mailroom_router.mails import Arrival, KnownBy, Reading
from mailroom_router.placing import Placed
from mailroom_router.settings import RouterSettings
from mailroom_router.trace import trace

ROUTED = Counter("mailroom_router_routed", "placements told, by what decided", ["by"])
KNOWN_AGAIN = Counter("mailroom_router_known_again", "arrivals of mails known before", ["by"])
DEFECTIVE = Counter("mailroom_router_defective", "mails read with defects")
SECONDS = Histogram(
    "mailroom_router_seconds", "from the fetcher having the bytes to the mailbox being decided"
)


class OvertookMailSent(RetryLater):
    """What seems to be our own mail came back before `mail.sent` told its fingerprint."""

    def __init__(self, mail: UUID) -> None:
        self.mail = mail
        super().__init__(f"it says that it is our own mail {mail}: waiting for mail.sent to say so")


class BytesLost(RetryLater):
    """The object store cannot give a mail's bytes: the fetcher is asked to bring them again."""

    def __init__(
        self, fault: objects.ObjectFault, cause: Received[MailReceived] | Received[MailSent]
    ) -> None:
        self.sha256 = fault.sha256
        command = MailFetch(raw=cause.event.raw, problem=str(fault))
        super().__init__(f"{fault}; the fetcher was asked too", asks=[caused_by(cause, command)])


async def route(
    tx: AsyncConnection,
    events: Sequence[Received[MailReceived]],
    resources: Resources[RouterSettings],
) -> Sequence[Outgoing]:
    """Read the arrivals, know them again, place them, and tell what is news."""
    readings = await _read(events, resources)
    now, world = clock.now(), await store.world(tx, {one.event.account for one in events})
    arrivals = [Arrival(event, read) for event, read in zip(events, readings, strict=True)]
    known = await store.know(tx, mails.candidates(arrivals), now)
    if ours := mails.overtook_mail_sent(arrivals, known.new, world.senders):
        raise OvertookMailSent(ours)
    placed = placing.place(arrivals, known.ids, world)
    to_tell = placing.news(placed, await store.place(tx, placed, now))
    known_by = mails.known_by(arrivals, known.new)
    await store.record(tx, placed, to_tell, known_by, now)
    _count(placed, to_tell, known_by, now)
    return [caused_by(one.arrival.received, placing.routed(one)) for one in to_tell if one]


async def register(
    tx: AsyncConnection,
    events: Sequence[Received[MailSent]],
    resources: Resources[RouterSettings],
) -> Sequence[Outgoing]:
    """Remember by what our own mails are known, wherever a copy of them arrives."""
    readings = await _read(events, resources)
    await store.register_own(tx, events, [read.fingerprint for read in readings], clock.now())
    return ()


async def _read(
    events: Sequence[Received[MailReceived]] | Sequence[Received[MailSent]],
    resources: Resources[RouterSettings],
) -> list[Reading]:
    by_hash = {one.event.raw.sha256: one for one in events}
    raws = [one.event.raw for one in events]
    try:
        return await reading.read(resources.objects, raws, resources.settings.reading_seconds)
    except objects.ObjectFault as fault:
        raise BytesLost(fault, by_hash[fault.sha256]) from fault


def _count(
    placed: Sequence[Placed],
    to_tell: Sequence[Placed | None],
    known_by: Sequence[KnownBy | None],
    now: datetime,
) -> None:
    for one, news, how in zip(placed, to_tell, known_by, strict=True):
        SECONDS.observe((now - one.arrival.event.received_at).total_seconds())
        if one.arrival.reading.mail.defects:
            DEFECTIVE.inc()
        if how:
            KNOWN_AGAIN.labels(how).inc()
        if news:
            ROUTED.labels(news.decision.kind).inc()


SERVICE = Service(
    name="router",
    settings=RouterSettings,
    metadata=store.metadata,
    messaging=store.messaging,
    publishes=(MailRouted, MailFetch),
    subscriptions=(Subscription(MailReceived, route), Subscription(MailSent, register)),
    trace=trace,
    writes=Writes(select(store.placement.c.parsed).distinct(), remaking.mend),
)
