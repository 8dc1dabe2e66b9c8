"""Requests in the database: accepted, tried, settled.

Invariant: what a try came to is decided on the locked row, in the transaction that stores it, so
that a late answer, a cancellation and a person's word never overwrite each other. Who
locks several rows locks leases, then requests, then copies, and of each those with lower ids first.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.contracts import MailRejected, MailSend, ObjectRef
from mailroom.messaging.envelope import Received
from mailroom_sender.outcomes import Reply, Target, Verdict
from mailroom_sender.requests import Key, Request, without_body
from mailroom_sender.tables import (
    attempts,
    cancellations,
    copies,
    leases,
    messaging,
    metadata,
    recipients,
    rejections,
    requests,
    uploads,
)

__all__ = ["messaging", "metadata"]


_NAME = func.unnest(bindparam("names", type_=ARRAY(Text))).column_valued("name")
_LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(_NAME, 0)))


async def lock_keys(tx: AsyncConnection, keys: Iterable[Key]) -> None:
    """One transaction at a time for each key: a request and its cancellation come on two queues."""
    names = sorted({f"{publisher}\n{key}" for publisher, key in keys})
    await tx.execute(_LOCK, {"names": names})


async def insert_requests(tx: AsyncConnection, accepted: Sequence[Request]) -> None:
    """Store new requests with their recipients."""
    if not accepted:
        return
    await tx.execute(insert(requests), [_request_row(request) for request in accepted])
    await tx.execute(
        insert(recipients),
        [
            {"mail": request.mail, "number": number, **_target_row(target)}
            for request in accepted
            for number, target in enumerate(request.targets)
        ],
    )
    await tx.execute(
        upsert(leases).on_conflict_do_nothing(),
        [
            {"account": account, "work": work}
            for account in sorted({one.account for one in accepted})
            for work in ("send", "file")
        ],
    )


async def insert_rejections(
    tx: AsyncConnection, rejected: Sequence[tuple[Received[MailSend], MailRejected]], now: datetime
) -> None:
    """Keep what was wrong where a person finds it."""
    if not rejected:
        return
    rows = [
        {
            "publisher": received.publisher,
            # PostgreSQL's text takes no U+0000, and a key with one is a reason to be here.
            "idempotency_key": received.event.idempotency_key.replace("\0", "\ufffd"),
            "event_id": received.event_id,
            "correlation_id": received.correlation_id,
            "errors": [error.model_dump() for error in event.errors],
            "rejected_at": now,
        }
        for received, event in rejected
    ]
    await tx.execute(insert(rejections), rows)


async def insert_cancellations(tx: AsyncConnection, keys: Sequence[Key], now: datetime) -> None:
    """Remember cancellations whose requests have not come yet."""
    rows = [
        {"publisher": publisher, "idempotency_key": key, "cancelled_at": now}
        for publisher, key in keys
    ]
    if rows:
        await tx.execute(upsert(cancellations).on_conflict_do_nothing(), rows)


async def insert_uploads(
    tx: AsyncConnection, publisher: str, files: Iterable[ObjectRef], now: datetime
) -> None:
    """Let a publisher attach these objects."""
    rows = [
        {"publisher": publisher, "sha256": sha256, "uploaded_at": now}
        for sha256 in sorted({file.sha256 for file in files})
    ]
    uploaded = upsert(uploads)
    again = uploaded.on_conflict_do_update(
        index_elements=[uploads.c.publisher, uploads.c.sha256],
        set_={"uploaded_at": uploaded.excluded.uploaded_at},
    )
    await tx.execute(again, rows)


_BEGIN = (
    update(requests)
    .where(
        requests.c.mail == bindparam("this"),
        requests.c.state.in_(("accepted", "sent")),
        requests.c.tries == bindparam("tried"),
        requests.c.due.is_not(None),
    )
    .values(state="sending", tries=requests.c.tries + 1, due=None, waits_for_server=False)
)


async def begin(
    tx: AsyncConnection,
    request: Request,
    said: Mapping[str, Reply],
    replica: str,
    now: datetime,
) -> bool:
    """To commit just before DATA. False where the mail is no longer to be sent.

    It was cancelled, or somebody else has tried it, since `request` was read.
    """
    begun = await tx.execute(_BEGIN, {"this": request.mail, "tried": request.tries})
    if begun.rowcount != 1:
        return False
    await insert_attempt(tx, request, request.tries + 1, said, replica, now)
    return True


async def insert_attempt(
    tx: AsyncConnection,
    request: Request,
    number: int,
    said: Mapping[str, Reply],
    replica: str,
    now: datetime,
) -> None:
    """Store an attempt as begun; it stays without outcome until `end_attempt`."""
    row = {
        "mail": request.mail,
        "number": number,
        "account": request.account,
        "replica": replica,
        "started_at": now,
        "offered": {address: [reply.code, reply.text] for address, reply in said.items()},
    }
    await tx.execute(insert(attempts), row)


_END_ATTEMPT = update(attempts).where(
    attempts.c.mail == bindparam("this"), attempts.c.number == bindparam("nth")
)


async def end_attempt(
    tx: AsyncConnection,
    request: Request,
    number: int,
    now: datetime,
    end: tuple[str, int | None, str],
) -> None:
    """Store how an attempt ended: outcome, code and reply."""
    outcome, code, reply = end
    ended = {"ended_at": now, "outcome": outcome, "code": code, "reply": reply}
    await tx.execute(_END_ATTEMPT, {"this": request.mail, "nth": number, **ended})


_UPDATE_REQUEST = update(requests).where(requests.c.mail == bindparam("this"))


async def settle(
    tx: AsyncConnection, request: Request, verdict: Verdict, now: datetime, **more: Any
) -> None:
    """Store a verdict: the request, its recipients, and the copy to file if it left just now."""
    over = verdict.due is None and verdict.state != "unknown"
    changed = {
        "state": verdict.state,
        "due": verdict.due,
        "failures": verdict.failures,
        "unknowns": verdict.unknowns,
        "sent_at": now if verdict.tell_sent else request.sent_at,
        "ended_at": now if over else None,
        **more,
    }
    await tx.execute(_UPDATE_REQUEST, {"this": request.mail, **changed})
    await _store_targets(tx, request, verdict.targets)
    if verdict.tell_sent:
        await _copy_is_due(tx, request, now)


async def server_was_heard(tx: AsyncConnection, account: UUID, now: datetime) -> None:
    """What waited for the account's SMTP server is due now."""
    of = (leases.c.account == account) & (leases.c.work == "send")
    await tx.execute(update(leases).where(of).values(rests_until=None))
    waiting = (requests.c.account == account) & (requests.c.due > now) & requests.c.waits_for_server
    locked = select(requests.c.mail).where(waiting).order_by(requests.c.mail).with_for_update()
    due = update(requests).where(requests.c.mail.in_(locked))
    await tx.execute(due.values(due=now, waits_for_server=False))


async def account_was_changed(tx: AsyncConnection, account: UUID, now: datetime) -> None:
    """It may have been mended: what waits for one of its servers is due now."""
    both = select(leases.c.work).where(leases.c.account == account).order_by(leases.c.work)
    await tx.execute(both.with_for_update())
    await tx.execute(update(leases).where(leases.c.account == account).values(rests_until=None))
    await server_was_heard(tx, account, now)
    waiting = (copies.c.account == account) & (copies.c.due > now)
    locked = select(copies.c.mail).where(waiting).order_by(copies.c.mail).with_for_update()
    await tx.execute(update(copies).where(copies.c.mail.in_(locked)).values(due=now))


async def recent(tx: AsyncConnection, account: UUID, since: datetime, limit: int) -> list[datetime]:
    """When the account's latest mails were given to its server, ascending."""
    times = await tx.scalars(
        select(attempts.c.started_at)
        .where(attempts.c.account == account, attempts.c.started_at > since)
        .order_by(attempts.c.started_at.desc())
        .limit(limit)
    )
    return sorted(times)


_INSERT_COPY = upsert(copies).on_conflict_do_nothing()


async def _copy_is_due(tx: AsyncConnection, request: Request, now: datetime) -> None:
    row = {
        "mail": request.mail,
        "account": request.account,
        "state": "due",
        "due": now,
        "created_at": now,
    }
    await tx.execute(_INSERT_COPY, row)


_UPDATE_RECIPIENT = update(recipients).where(
    recipients.c.mail == bindparam("this"), recipients.c.address == bindparam("of")
)


async def _store_targets(tx: AsyncConnection, request: Request, targets: Sequence[Target]) -> None:
    changed = [
        {"this": request.mail, "of": target.address, **_target_row(target)}
        for before, target in zip(request.targets, targets, strict=True)
        if target != before
    ]
    if changed:
        await tx.execute(_UPDATE_RECIPIENT, changed)


def _request_row(request: Request) -> dict[str, Any]:
    plain = {
        name: getattr(request, name)
        for name in Request.__dataclass_fields__
        if name not in {"asked", "raw", "targets"}
    }
    return plain | {
        "asked": without_body(request.asked),
        "raw_sha256": request.raw.sha256,
        "raw_size": request.raw.size,
    }


def _target_row(target: Target) -> dict[str, Any]:
    return {
        "address": target.address,
        "state": target.state,
        "code": target.code,
        "reply": target.reply,
        "doubtful": target.doubtful,
    }
