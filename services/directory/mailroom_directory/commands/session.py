"""One command, one transaction: its rows and its events commit together, or not at all.

Invariant: whatever changed is told by `directory.changed` from the same transaction; a person's
mistake ends as one line with field, value and remedy.
"""

from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import cli, clock
from mailroom.contracts import Contract, DirectoryChanged
from mailroom.directory import KeyFileRefused
from mailroom.messaging import outbox
from mailroom.messaging.envelope import Outgoing
from mailroom.tls import AuthoritiesUnreadable
from mailroom_directory import conflicts
from mailroom_directory.fields import FieldRefused
from mailroom_directory.listing import KindName
from mailroom_directory.settings import DirectorySettings
from mailroom_directory.store import messaging

T = TypeVar("T")


@dataclass
class Change:
    """What a command does in its transaction, and the events that it will tell."""

    tx: AsyncConnection
    at: datetime
    events: list[Contract] = field(default_factory=list)

    def changed(self, kind: KindName, id_: UUID) -> None:
        """Tell everybody, when this commits, to read this one again."""
        self.events.append(DirectoryChanged(kind=kind, id=id_))


@asynccontextmanager
async def changing(name: str, *, is_there: bool = False) -> AsyncIterator[Change]:
    """A transaction in which a person adds, changes or removes the thing of this name.

    `is_there`: a change, by which it may get this name. Raises FieldRefused.
    """
    correlation_id = str(uuid4())
    try:
        async with cli.connected(DirectorySettings) as (tx, _):
            change = Change(tx, clock.now())
            yield change
            told = [Outgoing(event, correlation_id) for event in change.events]
            await outbox.add(tx, messaging, told)
    except IntegrityError as broken:
        raise conflicts.told(broken, name, is_there=is_there) or broken from None


@asynccontextmanager
async def reading() -> AsyncIterator[AsyncConnection]:
    """A transaction that changes nothing."""
    async with cli.connected(DirectorySettings) as (tx, _):
        yield tx


@contextmanager
def refusing() -> Iterator[None]:
    """Tell the person who called what is wrong with the call."""
    try:
        yield
    except FieldRefused as wrong:
        raise cli.refuse(wrong.field, wrong.value, wrong.remedy) from None
    except (KeyFileRefused, AuthoritiesUnreadable) as wrong:
        raise cli.Refusal(str(wrong)) from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what it refuses goes to the person who called."""
    with refusing():
        return cli.run(work)
