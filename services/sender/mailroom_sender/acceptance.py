"""Accepting requests: from a command to a composed mail that will leave, or to what is wrong.

Invariant: a request is accepted with its bytes in the object store, its Message-ID and its content
hash fixed, in the transaction that consumes its command; from then on it leaves once.
"""

import asyncio
import base64
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import directory, mime, objects
from mailroom.contracts import FieldError, MailRejected, MailSend, SendAttachment
from mailroom.directory import Account
from mailroom.messaging.envelope import Received
from mailroom.objects import ObjectMissing, ObjectStore
from mailroom_sender import drafting, loading, store, validation
from mailroom_sender.addresses import sendable
from mailroom_sender.requests import Key, Request
from mailroom_sender.validation import AccountStanding, Known, has_control

ACCEPTED = Counter("mailroom_sender_accepted_total", "requests that will be sent")
REJECTED = Counter("mailroom_sender_rejected_total", "requests that were wrong")
REPEATED = Counter("mailroom_sender_repeated_total", "requests that had come before")

_COMPOSING = ThreadPoolExecutor(2, thread_name_prefix="composing")
"""Not asyncio's own: names are looked up there, and a name server that is silent takes all of it,
while this holds a transaction open."""

Command = Received[MailSend]


@dataclass(frozen=True)
class Surroundings:
    """What a batch of requests meets."""

    accounts: Mapping[str, Account | None]
    """By the name or id that the requests give."""
    allowed: Collection[tuple[str, UUID]]
    """Which publishers may send with which accounts."""
    object_sizes: Mapping[str, int]
    uploads: Collection[loading.Upload]
    """Which of the objects that strangers name were uploaded for them."""
    hashes: Mapping[Key, str]
    cancelled: Collection[Key]
    message_ids: Mapping[UUID, str]
    """Of those mails of ours that are answered."""


@dataclass
class Decisions:
    """What is to be done with a batch, in its order."""

    accepted: list[tuple[Command, Account]]
    rejected: list[tuple[Command, MailRejected]]


async def surroundings(
    tx: AsyncConnection, objects_: ObjectStore, commands: Sequence[Command]
) -> Surroundings:
    """Load what the requests need, for all at once."""
    keys = {key_of(command) for command in commands if not has_control(key_of(command)[1])}
    await store.lock_keys(tx, keys)
    names = {command.event.account for command in commands}
    accounts = {
        name: None if has_control(name) else await directory.account(tx, name) for name in names
    }
    wanted = {
        (command.publisher, account.id)
        for command in commands
        if (account := accounts[command.event.account]) is not None
    }
    answered = {
        command.event.answers.mail
        for command in commands
        if command.event.answers and command.event.answers.mail
    }
    return Surroundings(
        accounts=accounts,
        allowed={pair for pair in wanted if await directory.may_send(tx, *pair)},
        object_sizes=_sizes(objects_, commands),
        uploads=await loading.uploads(tx, _named_by_strangers(commands)),
        hashes=await loading.hashes(tx, keys),
        cancelled=await loading.cancelled_early(tx, keys),
        message_ids=await loading.message_ids(tx, answered),
    )


def decide(
    commands: Sequence[Command], around: Surroundings, now: datetime, size_limit: int
) -> Decisions:
    """Accept, reject, or leave alone what came before. A batch may hold a request twice."""
    hashes, decisions = dict(around.hashes), Decisions([], [])
    for command in commands:
        asked, account = command.event, around.accounts[command.event.account]
        content = drafting.content_hash(asked)
        earlier = hashes.get(key_of(command))
        if earlier == content:
            REPEATED.inc()
            continue
        standing = _standing(account, command.publisher, around)
        uploads = _uploads(command.publisher, around)
        known = Known(standing, around.object_sizes, earlier, command.publisher, uploads)
        errors = validation.faults(asked, content, known, now, size_limit)
        if errors or account is None:
            decisions.rejected.append((command, rejection(command, errors)))
        else:
            hashes[key_of(command)] = content
            decisions.accepted.append((command, account))
    return decisions


async def accept(
    tx: AsyncConnection,
    objects_: ObjectStore,
    around: Surroundings,
    accepted: Sequence[tuple[Command, Account]],
    now: datetime,
) -> list[Request]:
    """Compose and store the mails, and the requests with them."""
    requests = [
        await _request(objects_, around, command, account, now) for command, account in accepted
    ]
    await store.insert_requests(tx, requests)
    ACCEPTED.inc(len(requests))
    return requests


def rejection(command: Command, errors: Sequence[FieldError]) -> MailRejected:
    """What is told of a request that is wrong."""
    REJECTED.inc()
    return MailRejected(
        publisher=command.publisher,
        idempotency_key=command.event.idempotency_key,
        event_id=command.event_id,
        errors=tuple(errors),
    )


def key_of(command: Received[MailSend]) -> Key:
    """What a request is known by."""
    return command.publisher, command.event.idempotency_key


def _standing(account: Account | None, publisher: str, around: Surroundings) -> AccountStanding:
    if account is None:
        return "unknown"
    if (publisher, account.id) not in around.allowed:
        return "forbidden"
    if not account.enabled:
        return "disabled"
    return "ready" if account.smtp is not None else "without_smtp"


def _uploads(publisher: str, around: Surroundings) -> Collection[str] | None:
    """What a publisher may attach; None for all, which services of ours may."""
    if publisher in directory.OWN_SERVICES:
        return None
    return {sha256 for name, sha256 in around.uploads if name == publisher}


def _named_by_strangers(commands: Sequence[Command]) -> set[loading.Upload]:
    return {
        (command.publisher, attachment.object)
        for command in commands
        if command.publisher not in directory.OWN_SERVICES
        for attachment in command.event.attachments
        if attachment.object is not None
    }


def _sizes(objects_: ObjectStore, commands: Sequence[Command]) -> dict[str, int]:
    sizes = {}
    for command in commands:
        for attachment in command.event.attachments:
            if attachment.object is not None:
                with suppress(ObjectMissing):
                    sizes[attachment.object] = objects.size(objects_, attachment.object)
    return sizes


async def _request(
    objects_: ObjectStore, around: Surroundings, command: Command, account: Account, now: datetime
) -> Request:
    asked, mail = command.event, drafting.mail_id(*key_of(command))
    files = [await _file(objects_, attachment) for attachment in asked.attachments]
    first_due = max(asked.send_at or now, now)
    sender = mime.Address(account.display_name, sendable(account.address))
    draft = drafting.draft(asked, mail, sender, first_due, files, _answered(asked, around))
    # In a thread: 25 MB take a while, and the leases are renewed by this loop.
    composed = await asyncio.get_running_loop().run_in_executor(_COMPOSING, mime.compose, draft)
    raw = await objects.put(objects_, composed)
    return Request(
        mail=mail,
        publisher=command.publisher,
        idempotency_key=asked.idempotency_key,
        content_hash=drafting.content_hash(asked),
        event_id=command.event_id,
        correlation_id=command.correlation_id,
        account=account.id,
        sender=sender.address,
        message_id=draft.message_id,
        subject=mime.stamp(draft.subject, asked.tag),
        asked=asked,
        raw=raw,
        state="accepted",
        due=first_due,
        tries=0,
        failures=0,
        unknowns=0,
        first_due=first_due,
        expires_at=asked.expires_at,
        accepted_at=now,
        sent_at=None,
        targets=drafting.envelope(asked),
    )


def _answered(asked: MailSend, around: Surroundings) -> str | None:
    """The Message-ID of the mail that is answered; one of ours may be given by its id alone."""
    if asked.answers is None:
        return None
    if asked.answers.message_id is None and asked.answers.mail is not None:
        return around.message_ids.get(asked.answers.mail)
    return asked.answers.message_id


async def _file(objects_: ObjectStore, attachment: SendAttachment) -> mime.File:
    content = (
        await objects.get(objects_, attachment.object)
        if attachment.object is not None
        else base64.b64decode(attachment.inline or "")
    )
    name = drafting.one_line(attachment.filename)
    return mime.File(name, attachment.type, content, attachment.content_id)
