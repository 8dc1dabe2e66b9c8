"""The directory as a service: it publishes what its commands changed, and hears how accounts fare.

Invariant: people change the directory through commands, which write rows and events in one
transaction; what runs here relays those events and keeps the state of each account.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.contracts import AccountFetch, AccountObserved, DirectoryChanged
from mailroom.messaging.envelope import Outgoing, Received
from mailroom.service import Resources, Service, Subscription
from mailroom_directory import queries, states
from mailroom_directory.settings import DirectorySettings
from mailroom_directory.store import messaging, metadata


async def note(
    tx: AsyncConnection,
    events: Sequence[Received[AccountObserved]],
    _: Resources[DirectorySettings],
) -> Sequence[Outgoing]:
    """Keep the newest observation of each account; of a removed one there is nothing to keep."""
    newest = states.newest(received.event for received in events)
    kept = await queries.lock_accounts(tx, newest)
    await queries.store_states(tx, [newest[account] for account in kept], clock.now())
    return ()


SERVICE = Service(
    name="directory",
    settings=DirectorySettings,
    metadata=metadata,
    messaging=messaging,
    publishes=(DirectoryChanged, AccountFetch),
    subscriptions=(Subscription(AccountObserved, note),),
)
