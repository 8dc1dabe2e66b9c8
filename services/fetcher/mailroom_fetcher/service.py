"""The fetcher, whole: it holds the accounts, and hears when one changes, is wanted at once, or has
bytes that the object store lost."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.contracts import (
    AccountFetch,
    AccountObserved,
    DirectoryChanged,
    MailFetch,
    MailReceived,
)
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.service import Resources, Service, Subscription, Writes
from mailroom_fetcher import leases, lost, waking
from mailroom_fetcher.accounts import attend_accounts
from mailroom_fetcher.settings import FetcherSettings
from mailroom_fetcher.store import arrivals, messaging, metadata
from mailroom_fetcher.trace import trace


async def fetch_now(
    tx: AsyncConnection,
    events: Sequence[Received[AccountFetch]],
    resources: Resources[FetcherSettings],  # noqa: ARG001
) -> Sequence[Outgoing]:
    """Whoever holds these accounts looks at once."""
    await leases.want_fetched(tx, [received.event.account for received in events], clock.now())
    await waking.say(tx, waking.FETCH)
    return ()


async def fetch_again(
    tx: AsyncConnection,
    events: Sequence[Received[MailFetch]],
    resources: Resources[FetcherSettings],
) -> Sequence[Outgoing]:
    """Whoever holds an account that brought these bytes looks whether it still has them."""
    asked = {received.event.raw.sha256: received.event.problem for received in events}
    await lost.bring_again(tx, resources.objects, asked, clock.now())
    return ()


async def read_again(
    tx: AsyncConnection,
    events: Sequence[Received[DirectoryChanged]],
    resources: Resources[FetcherSettings],  # noqa: ARG001
) -> Sequence[Outgoing]:
    """All replicas read the accounts again, if one changed."""
    if any(received.event.kind == "account" for received in events):
        await waking.say(tx, waking.DIRECTORY)
    return ()


SERVICE = Service(
    name="fetcher",
    settings=FetcherSettings,
    metadata=metadata,
    messaging=messaging,
    publishes=(MailReceived, AccountObserved),
    subscriptions=(
        Subscription(AccountFetch, fetch_now),
        Subscription(MailFetch, fetch_again),
        Subscription(DirectoryChanged, read_again),
    ),
    tasks=(attend_accounts,),
    trace=trace,
    writes=Writes(select(arrivals.c.sha256).distinct().where(arrivals.c.sha256 != ""), lost.mend),
)
