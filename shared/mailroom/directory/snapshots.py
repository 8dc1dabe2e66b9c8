"""All accounts and mailboxes, kept from one change of the directory to the next.

Invariant: what is given out is as the directory stands in the caller's transaction. Its revision,
which each commit changes that changes something, is asked for every time, and before the rest: what
is read after it may be newer than it says, and is then read once more, but never older.
"""

from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from sqlalchemy import Uuid, column, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.directory.model import Account, Mailbox
from mailroom.directory.views import accounts, mailboxes

REVISION = table("revision_v1", column("id", Uuid), schema="directory")
_REVISION = select(REVISION.c.id)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The directory, as of one revision; the same object as long as that holds."""

    revision: UUID
    accounts: tuple[Account, ...]
    """Disabled ones too, by name; without passwords."""
    mailboxes: tuple[Mailbox, ...]
    """By name."""

    @cached_property
    def addresses(self) -> frozenset[str]:
        """The addresses of all accounts and mailboxes, in lower case."""
        written = [account.address for account in self.accounts]
        written += [address for mailbox in self.mailboxes for address in mailbox.addresses]
        return frozenset(address.lower() for address in written)


_kept: list[Snapshot] = []
"""The last one. A revision is another one in each database, so it may be asked for two."""


async def snapshot(tx: AsyncConnection) -> Snapshot:
    """All accounts and mailboxes; read only if the directory has changed since the last time."""
    revision = (await tx.execute(_REVISION)).scalar_one()
    if not _kept or _kept[0].revision != revision:
        read = Snapshot(revision, tuple(await accounts(tx)), tuple(await mailboxes(tx)))
        _kept[:] = [read]
    return _kept[0]
