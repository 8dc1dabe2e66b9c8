from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from mailroom import clock
from mailroom.contracts import AccountObserved
from mailroom.messaging.envelope import Received
from mailroom.service import Resources
from mailroom_directory import queries
from mailroom_directory.service import note
from mailroom_directory.states import State
from tests.directory.conftest import As

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
UNUSED = cast("Resources[Any]", None)


def observed(account: UUID, at: datetime, problem: str = "") -> Received[AccountObserved]:
    event = AccountObserved(
        account=account,
        state="failing" if problem else "ok",
        problem=problem,
        since=at,
        observed_at=at,
        mails=3,
    )
    return Received(str(uuid4()), event, "fetcher", "correlation", at)


async def an_account(as_: As, name: str = "service") -> UUID:
    async with as_("directory") as tx:
        mailbox = {"name": name, "kind": "central", "owner_id": None}
        values = {
            "name": name,
            "address": "service@example.com",
            "display_name": "",
            "mailbox_id": await queries.add(tx, "mailbox", mailbox, NOON),
            "sent": "append",
            "unknown": "resend",
            "start": NOON,
            "interval_seconds": 60,
            "timezone": "UTC",
            "idle": True,
            "enabled": True,
        }
        return await queries.add(tx, "account", values, NOON)


async def after(as_: As, *batches: Sequence[Received[AccountObserved]]) -> dict[UUID, State]:
    """The states when these batches were handled, each in a transaction of its own."""
    for batch in batches:
        async with as_("directory") as tx:
            assert await note(tx, batch, UNUSED) == ()
    async with as_("directory") as tx:
        return await queries.account_states(tx)


async def test_the_newest_observation_stays_whatever_the_order(as_: As) -> None:
    account = await an_account(as_)
    old = observed(account, NOON, "wrong password")
    new = observed(account, NOON + timedelta(minutes=1))
    expected = {
        account: State("ok", "", NOON + timedelta(minutes=1), NOON + timedelta(minutes=1), 3)
    }
    assert await after(as_, [new], [old]) == expected
    assert await after(as_, [old], [new, old]) == expected


async def test_what_was_observed_before_the_clock_was_put_back_hides_nothing_after_it(
    as_: As,
) -> None:
    account = await an_account(as_)
    now = clock.now()
    before, after_it = (
        observed(account, now + timedelta(hours=1)),
        observed(account, now, "refused"),
    )
    states = await after(as_, [before], [after_it])
    assert (states[account].state, states[account].problem) == ("failing", "refused")


async def test_states_of_several_accounts_are_kept_from_one_batch(as_: As) -> None:
    first, second = await an_account(as_, "a"), await an_account(as_, "b")
    states = await after(as_, [observed(first, NOON), observed(second, NOON, "refused")])
    assert {account: state.state for account, state in states.items()} == {
        first: "ok",
        second: "failing",
    }


async def test_an_observation_of_a_removed_account_disturbs_no_other(as_: As) -> None:
    kept, removed = await an_account(as_), uuid4()
    assert set(await after(as_, [observed(removed, NOON), observed(kept, NOON)])) == {kept}
    assert await after(as_, [observed(removed, NOON)])
