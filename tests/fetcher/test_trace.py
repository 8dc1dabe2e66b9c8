"""What the fetcher tells of a mail's way."""

from mailroom.directory import Folder
from mailroom.service import TraceKeys
from mailroom_fetcher.service import SERVICE
from tests.fetcher.office import (
    LONG_AGO,
    Office,
    a_mail,
    add_account,
    brought,
    events,
    fetch_now,
    ledger,
    other_client,
    put_mail,
    replica,
)
from tests.waiting import until


async def test_an_arrival_is_found_by_the_correlation_id_that_it_began(office: Office) -> None:
    account = await add_account(office, "service", folders=(Folder("Projects", "other"),))
    with other_client(office, account) as client:
        client.create("Projects")
        put_mail(client, a_mail("1"), folder="Projects", when=LONG_AGO)
        async with replica(office):
            (event,) = await brought(office, 1)
            client.delete("Projects")
            client.create("Projects")
            put_mail(client, a_mail("1"), folder="Projects")
            await fetch_now(office, account)
            await until(lambda: _joined(office))
    (row,) = await events(office, "mail.received")
    keys = TraceKeys(correlation_ids=frozenset({row["correlation_id"], "no uuid"}))
    assert SERVICE.trace is not None
    async with office.engine.begin() as tx:
        _, (first, again) = await SERVICE.trace(tx, keys)
    assert (first.at, first.service, first.what) == (
        event.received_at,
        "fetcher",
        "received as backfill",
    )
    assert first.detail == {
        "account": str(account.id),
        "folder": "Projects",
        "uidvalidity": str(event.uidvalidity),
        "uid": "1",
        "arrival": str(event.arrival),
        "object": event.raw.sha256,
        "bytes": str(event.raw.size),
    }
    assert (again.what, again.why) == (
        "joined",
        "its bytes are known from before the folder was renumbered",
    )


async def _joined(office: Office) -> bool:
    return "joined" in [row["state"] for row in await ledger(office)]


async def test_what_the_fetcher_does_not_know_has_no_steps(office: Office) -> None:
    assert SERVICE.trace is not None
    async with office.engine.begin() as tx:
        keys = TraceKeys(message_ids=frozenset({"m1@x.test"}))
        assert await SERVICE.trace(tx, keys) == (TraceKeys(), ())
