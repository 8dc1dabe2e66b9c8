"""How an account fares: on the metrics, and as `account.observed` for `mailroom account list`.

Invariant: told when the state or its words change, and once an hour; only by the account's holder.
"""

from uuid import UUID, uuid4

from prometheus_client import Gauge
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import AccountObserved
from mailroom.messaging.envelope import Outgoing
from mailroom_fetcher.standing import Standing
from mailroom_fetcher.store import accounts, mails

ACCOUNTS = Gauge(
    "mailroom_fetcher_accounts", "Accounts that this replica holds, by their state.", ["state"]
)
FAILING = Gauge(
    "mailroom_fetcher_account_failing",
    "1 for each failing account that this replica holds, by its name; the first hundred of them.",
    ["account"],
)

NAMES = 100
"""Failing accounts that the metrics name: when a provider is down, thousands fail at once."""


async def last_told(tx: AsyncConnection, account: UUID) -> Standing | None:
    """How the account fared when it was last told, by whichever replica."""
    row = (
        await tx.execute(
            select(
                accounts.c.state, accounts.c.problem, accounts.c.since, accounts.c.observed_at
            ).where(accounts.c.account == account, accounts.c.state.is_not(None))
        )
    ).first()
    return None if row is None else Standing(*row)


async def tell(tx: AsyncConnection, account: UUID, standing: Standing) -> Outgoing:
    """Write down how an account fares; the event that tells it, for the outbox."""
    await tx.execute(
        update(accounts)
        .where(accounts.c.account == account)
        .values(
            state=standing.state,
            problem=standing.problem,
            since=standing.since,
            observed_at=standing.observed_at,
        )
    )
    event = AccountObserved(
        account=account,
        state=standing.state,
        problem=standing.problem,
        since=standing.since,
        observed_at=standing.observed_at,
        mails=await mails(tx, account),
    )
    return Outgoing(event, str(uuid4()))


_shown: dict[UUID, tuple[str, str]] = {}
_named: set[str] = set()


def show(account: UUID, name: str, state: str) -> None:
    """Put the state of a held account on the metrics."""
    hide(account)
    _shown[account] = (name, state)
    ACCOUNTS.labels(state).inc()
    if state == "failing" and len(_named) < NAMES:
        _named.add(name)
        FAILING.labels(name).set(1)


def hide(account: UUID) -> None:
    """Take an account off the metrics: this replica holds it no more."""
    name, state = _shown.pop(account, ("", ""))
    if state:
        ACCOUNTS.labels(state).dec()
    if name in _named:
        _named.remove(name)
        FAILING.remove(name)
