"""What stands in the database of requests: by key, by mail, by Message-ID, or as they fall due."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    RowMapping,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom.arrays import rows_of
from mailroom.contracts import MailSend, ObjectRef
from mailroom_sender import tables
from mailroom_sender.outcomes import Reply, Target
from mailroom_sender.requests import Key, Request
from mailroom_sender.tables import attempts, cancellations, recipients, requests

Upload = tuple[str, str]
"""Publisher and SHA-256."""

# Built once: docs/decisions/statements-are-built-once.md.
_MAILS, _IDS = rows_of("mails", Uuid), rows_of("ids", Text)
_NAMED = (
    func.unnest(bindparam("publishers", type_=ARRAY(Text)), bindparam("names", type_=ARRAY(Text)))
    .table_valued("publisher", "name")
    .render_derived()
)


def _of_key(table: Table) -> ColumnElement[bool]:
    key = (table.c.publisher, table.c.idempotency_key)
    return (key[0] == _NAMED.c.publisher) & (key[1] == _NAMED.c.name)


_HASHES = select(requests.c.publisher, requests.c.idempotency_key, requests.c.content_hash).join(
    _NAMED, _of_key(requests)
)
_CANCELLED = select(cancellations.c.publisher, cancellations.c.idempotency_key).join(
    _NAMED, _of_key(cancellations)
)
_UPLOADS = select(tables.uploads.c.publisher, tables.uploads.c.sha256).join(
    _NAMED,
    (tables.uploads.c.publisher == _NAMED.c.publisher) & (tables.uploads.c.sha256 == _NAMED.c.name),
)
_MESSAGE_IDS = select(requests.c.mail, requests.c.message_id).join(
    _MAILS, requests.c.mail == _MAILS.c.value
)
_BY_KEY = select(requests).join(_NAMED, _of_key(requests)).order_by(requests.c.mail)
_LOCKED = select(requests).where(requests.c.mail == bindparam("this")).with_for_update()
_BY_MAIL = select(requests).join(_MAILS, requests.c.mail == _MAILS.c.value)
_BY_MESSAGE_ID = select(requests).join(_IDS, requests.c.message_id == _IDS.c.value)
_DUE = (
    select(requests)
    .where(requests.c.account == bindparam("of"), requests.c.due <= bindparam("now"))
    .order_by(requests.c.due, requests.c.mail)
    .limit(bindparam("limit", type_=Integer))
)
_RECIPIENTS = (
    select(recipients)
    .join(_MAILS, recipients.c.mail == _MAILS.c.value)
    .order_by(recipients.c.mail, recipients.c.number)
)


async def hashes(tx: AsyncConnection, keys: Collection[Key]) -> dict[Key, str]:
    """The `content_hash` of those requests that were accepted, by key."""
    found = await tx.execute(_HASHES, _given(keys))
    return {(row.publisher, row.idempotency_key): row.content_hash for row in found}


async def cancelled_early(tx: AsyncConnection, keys: Collection[Key]) -> set[Key]:
    """Those keys whose cancellation came before the request."""
    found = await tx.execute(_CANCELLED, _given(keys))
    return {(row.publisher, row.idempotency_key) for row in found}


async def uploads(tx: AsyncConnection, named: Collection[Upload]) -> set[Upload]:
    """Those of these objects that were uploaded for the publisher that names them."""
    if not named:
        return set()
    found = await tx.execute(_UPLOADS, _given(named))
    return {(row.publisher, row.sha256) for row in found}


async def message_ids(tx: AsyncConnection, mails: Collection[UUID]) -> dict[UUID, str]:
    """The Message-IDs of mails of ours."""
    if not mails:
        return {}
    found = await tx.execute(_MESSAGE_IDS, {"mails": list(mails)})
    return {row.mail: row.message_id for row in found}


async def by_key(
    tx: AsyncConnection, keys: Collection[Key], *, lock: bool = False
) -> dict[Key, Request]:
    """Requests by key, their rows locked if wanted."""
    query = _BY_KEY.with_for_update(of=requests) if lock else _BY_KEY
    found = await _load(tx, query, **_given(keys))
    return {request.key: request for request in found}


async def by_message_ids(tx: AsyncConnection, wanted: Collection[str]) -> dict[str, Request]:
    """Requests by Message-ID."""
    found = await _load(tx, _BY_MESSAGE_ID, ids=list(wanted))
    return {request.message_id: request for request in found}


async def get(tx: AsyncConnection, mail: UUID) -> Request | None:
    """One request, its row locked."""
    found = await _load(tx, _LOCKED, this=mail)
    return found[0] if found else None


async def by_mails(tx: AsyncConnection, mails: Collection[UUID]) -> list[Request]:
    """Requests by the mails of ours that they became."""
    return await _load(tx, _BY_MAIL, mails=list(mails))


async def due(tx: AsyncConnection, account: UUID, now: datetime, limit: int) -> list[Request]:
    """Requests of an account that are to be tried now, the longest due first."""
    return await _load(tx, _DUE, of=account, now=now, limit=limit)


async def interrupted(tx: AsyncConnection, account: UUID) -> list[Request]:
    """Requests of an account that stand between the commit before DATA and the one after it."""
    query = select(requests).where(requests.c.account == account, requests.c.state == "sending")
    return await _load(tx, query.order_by(requests.c.mail))


async def offered(tx: AsyncConnection, mail: UUID, number: int) -> dict[str, Reply]:
    """What the server said of each recipient before DATA, in this attempt."""
    said = await tx.scalar(
        select(attempts.c.offered).where(attempts.c.mail == mail, attempts.c.number == number)
    )
    return {address: Reply(code, text) for address, (code, text) in (said or {}).items()}


def _given(keys: Collection[Key]) -> dict[str, list[str]]:
    return {"publishers": [one for one, _ in keys], "names": [key for _, key in keys]}


async def _load(tx: AsyncConnection, query: Select[Any], **given: object) -> list[Request]:
    rows = (await tx.execute(query, given)).mappings().all()
    if not rows:
        return []
    targets: dict[UUID, list[Target]] = {row["mail"]: [] for row in rows}
    for row in await tx.execute(_RECIPIENTS, {"mails": list(targets)}):
        target = Target(row.address, row.state, row.code, row.reply, row.doubtful)
        targets[row.mail].append(target)
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
