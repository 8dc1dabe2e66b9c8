"""The tally's table.

Invariant: rows are written in the order of their key, so that two replicas wait for each other at
most, and never both.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.messaging.tables import messaging_tables

metadata = MetaData(schema="tally")
messaging = messaging_tables(metadata)

sender = Table(
    "sender",
    metadata,
    Column("address", Text, primary_key=True),
    Column("mails", BigInteger, nullable=False),
)


async def add(tx: AsyncConnection, senders: Mapping[str, int]) -> None:
    """Count these mails, by sender."""
    if not senders:
        return
    statement = insert(sender)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["address"], set_={"mails": sender.c.mails + statement.excluded.mails}
        ),
        [{"address": address, "mails": senders[address]} for address in sorted(senders)],
    )


async def most(tx: AsyncConnection, limit: int) -> Sequence[tuple[str, int]]:
    """Who wrote most, and how often."""
    rows = await tx.execute(select(sender).order_by(sender.c.mails.desc()).limit(limit))
    return [(row.address, row.mails) for row in rows]
