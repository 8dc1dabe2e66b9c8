"""What stands in the database of requests: by key, by mail, by Message-ID, or as they fall due."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, RowMapping, Select, Text, Uuid, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TableValuedAlias

from mailroom.contracts import MailSend, ObjectRef
from mailroom_sender.outcomes import Reply, Target
from mailroom_sender.requests import Key, Request
from mailroom_sender.tables import attempts, cancellations, recipients, requests


async def hashes(tx: AsyncConnection, keys: Collection[Key]) -> dict[Key, str]:
    """The `content_hash` of those requests that were accepted, by key."""
    wanted = _keys(keys)
    found = await tx.execute(
        select(requests.c.publisher, requests.c.idempotency_key, requests.c.content_hash).join(
            wanted, _of_key(requests, wanted)
        )
    )
    return {(row.publisher, row.idempotency_key): row.content_hash for row in found}


async def cancelled_early(tx: AsyncConnection, keys: Collection[Key]) -> set[Key]:
    """Those keys whose cancellation came before the request."""
    wanted = _keys(keys)
    found = await tx.execute(
        select(cancellations.c.publisher, cancellations.c.idempotency_key).join(
            wanted, _of_key(cancellations, wanted)
        )
    )
    return {(row.publisher, row.idempotency_key) for row in found}


async def message_ids(tx: AsyncConnection, mails: Collection[UUID]) -> dict[UUID, str]:
    """The Message-IDs of mails of ours."""
    wanted = _mails(mails)
    found = await tx.execute(
        select(requests.c.mail, requests.c.message_id).join(
            wanted, requests.c.mail == wanted.c.mail
        )
    )
    return {row.mail: row.message_id for row in found}


async def by_key(
    tx: AsyncConnection, keys: Collection[Key], *, lock: bool = False
) -> dict[Key, Request]:
    """Requests by key, their rows locked if wanted."""
    wanted = _keys(keys)
    query = select(requests).join(wanted, _of_key(requests, wanted)).order_by(requests.c.mail)
    found = await _load(tx, query.with_for_update(of=requests) if lock else query)
    return {request.key: request for request in found}


async def by_message_ids(tx: AsyncConnection, wanted: Collection[str]) -> dict[str, Request]:
    """Requests by Message-ID."""
    ids = func.unnest(literal(list(wanted), ARRAY(Text))).table_valued("id").render_derived()
    found = await _load(tx, select(requests).join(ids, requests.c.message_id == ids.c.id))
    return {request.message_id: request for request in found}


async def get(tx: AsyncConnection, mail: UUID, *, lock: bool = False) -> Request | None:
    """One request, its row locked if wanted."""
    query = select(requests).where(requests.c.mail == mail)
    found = await _load(tx, query.with_for_update() if lock else query)
    return found[0] if found else None


async def by_mails(tx: AsyncConnection, mails: Collection[UUID]) -> list[Request]:
    """Requests by the mails of ours that they became."""
    wanted = _mails(mails)
    return await _load(tx, select(requests).join(wanted, requests.c.mail == wanted.c.mail))


async def due(tx: AsyncConnection, account: UUID, now: datetime, limit: int) -> list[Request]:
    """Requests of an account that are to be tried now, the longest due first."""
    query = (
        select(requests)
        .where(requests.c.account == account, requests.c.due <= now)
        .order_by(requests.c.due, requests.c.mail)
        .limit(limit)
    )
    return await _load(tx, query)


async def interrupted(tx: AsyncConnection, account: UUID) -> list[Request]:
    """Requests of an account that stand between the commit before DATA and the one after it."""
    query = select(requests).where(requests.c.account == account, requests.c.state == "sending")
    return await _load(tx, query)


async def offered(tx: AsyncConnection, mail: UUID, number: int) -> dict[str, Reply]:
    """What the server said of each recipient before DATA, in this attempt."""
    said = await tx.scalar(
        select(attempts.c.offered).where(attempts.c.mail == mail, attempts.c.number == number)
    )
    return {address: Reply(code, text) for address, (code, text) in (said or {}).items()}


def _mails(mails: Collection[UUID]) -> TableValuedAlias:
    return func.unnest(literal(list(mails), ARRAY(Uuid))).table_valued("mail").render_derived()


def _keys(keys: Collection[Key]) -> TableValuedAlias:
    publishers = literal([publisher for publisher, _ in keys], ARRAY(Text))
    names = literal([key for _, key in keys], ARRAY(Text))
    return (
        func.unnest(publishers, names).table_valued("publisher", "idempotency_key").render_derived()
    )


def _of_key(table: Any, wanted: TableValuedAlias) -> Any:
    return (table.c.publisher == wanted.c.publisher) & (
        table.c.idempotency_key == wanted.c.idempotency_key
    )


async def _load(tx: AsyncConnection, query: Select[Any]) -> list[Request]:
    rows = (await tx.execute(query)).mappings().all()
    if not rows:
        return []
    wanted = _mails([row["mail"] for row in rows])
    targets: dict[UUID, list[Target]] = {row["mail"]: [] for row in rows}
    found = await tx.execute(
        select(recipients)
        .join(wanted, recipients.c.mail == wanted.c.mail)
        .order_by(recipients.c.mail, recipients.c.number)
    )
    for row in found:
        targets[row.mail].append(Target(row.address, row.state, row.code, row.reply))
    return [_request(row, targets[row["mail"]]) for row in rows]


def _request(row: RowMapping, targets: Sequence[Target]) -> Request:
    plain = {
        name: row[name]
        for name in Request.__dataclass_fields__
        if name not in {"asked", "raw", "targets"}
    }
    return Request(
        **plain,
        asked=MailSend.model_validate(row["asked"]),
        raw=ObjectRef(sha256=row["raw_sha256"], size=row["raw_size"]),
        targets=tuple(targets),
    )
