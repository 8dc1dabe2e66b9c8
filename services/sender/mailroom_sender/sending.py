"""Sending what is due for one account, over a kept connection.

Invariant: `sending` is committed just before DATA, under the lease, and what came of it just after;
so a mail in `sending` that nobody works on is one of which nobody knows. Whatever is known of a
mail is stored, even if the lease is lost or the service stops meanwhile.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from aiosmtplib import SMTP
from prometheus_client import Histogram

from mailroom import clock, directory, objects, smtp, tls
from mailroom.crashpoints import crashpoint
from mailroom.directory import Account, Server
from mailroom.messaging.failures import database_is_away, describe
from mailroom.messaging.presence import begin
from mailroom.messaging.stopping import end_if_cancelled, to_its_end
from mailroom.service import Resources
from mailroom_sender import loading, schedule, store, transaction
from mailroom_sender.leases import Lease, LeaseLost, attend, fence, rest, while_held, woken
from mailroom_sender.logins import NoLogin, login, rest_after
from mailroom_sender.outcomes import Answered, Reply, Try, Unanswered, Unreachable
from mailroom_sender.requests import Request
from mailroom_sender.settings import SenderSettings
from mailroom_sender.settling import settle_data, settle_try, stop

log = structlog.get_logger("mailroom.sender.sending")

BATCH = 20
POSTPONED = 100
"""Mails a transaction, when none of them can be sent."""
LOST_IN_A_ROW = 3
"""Connections lost before DATA, after which it is hardly for the mails' sake."""
GRACE = 7.0
"""Seconds that DATA may still take, and its outcome to be stored, when the service stops."""

SMTP_SECONDS = Histogram("mailroom_sender_smtp_seconds", "from DATA to its reply, for each mail")

Resource = Resources[SenderSettings]


@dataclass
class _Link:
    """An account's kept connection."""

    context: ssl.SSLContext
    given: deque[datetime]
    """When the latest mails were given to the server."""
    client: SMTP | None = None
    server: Server | None = None
    used: bool = False
    in_transaction: bool = False
    """The server was told a sender, and what it said last is not that all is over: to it another
    MAIL would be nested, and that be refused for good (RFC 5321 section 4.1.4)."""
    resting: bool = False
    """The server cannot be reached, and is left alone for a while."""
    lost: int = 0
    """How often in a row it was lost before DATA."""


@dataclass(frozen=True)
class _Offered:
    """A mail of which the server knows sender and recipients."""

    client: SMTP
    said: Mapping[str, Reply]
    mail: bytes


async def send_mails(resources: Resource) -> None:
    """Send what is due, for each account on one replica at a time, for ever."""
    await attend(resources, "send", send_for_account)


async def send_for_account(resources: Resource, lease: Lease) -> None:
    """Send what is due, until nothing has been for `idle_seconds`."""
    await _recover(resources, lease)
    link = await _link(resources, lease)
    try:
        while True:
            end_if_cancelled()
            async with begin(resources.engine) as tx:
                mails = await loading.due(tx, lease.account, clock.now(), BATCH)
                account = (
                    await directory.account_with_passwords(tx, lease.account) if mails else None
                )
            if mails:
                await _send_batch(resources, lease, account, mails, link)
                if link.resting:
                    return
            elif not await woken(lease, resources.settings.idle_seconds):
                return
    finally:
        await _disconnect(link)


async def _recover(resources: Resource, lease: Lease) -> None:
    """Whoever worked here before left these between the two commits around DATA."""
    async with begin(resources.engine) as tx:
        await fence(tx, lease)
        account = await directory.account_with_passwords(tx, lease.account)
        for request in await loading.interrupted(tx, lease.account):
            said = await loading.offered(tx, request.mail, request.tries)
            unknown = Unanswered(said, "the sender ended before it stored the answer to DATA")
            await settle_data(tx, resources, account, request, unknown, request.tries)
    crashpoint("sender.recovered")


async def _link(resources: Resource, lease: Lease) -> _Link:
    rate = resources.settings.rate_per_minute
    async with begin(resources.engine) as tx:
        since = clock.now() - schedule.MINUTE
        given = await store.recent(tx, lease.account, since, rate)
    return _Link(tls.client_context(resources.common.tls_ca_file), deque(given, maxlen=rate))


async def _send_batch(
    resources: Resource,
    lease: Lease,
    account: Account | None,
    mails: Sequence[Request],
    link: _Link,
) -> None:
    for request in mails:
        end_if_cancelled()
        now = clock.now()
        if account is None or (request.expires_at is not None and request.expires_at <= now):
            async with begin(resources.engine) as tx:
                await stop(tx, resources, request, "expired" if account else "account_removed")
            continue
        free = schedule.free_at(link.given, now, resources.settings.rate_per_minute)
        if free > now:
            # Then look again: the clock may have been moved, or the account changed.
            await asyncio.sleep(min((free - now).total_seconds(), 1))
            return
        try:
            await _try(resources, lease, account, request, link)
        except smtp.NotConnected as failed:
            link.resting = True
            await _postpone_all(resources, lease, account, failed)
            return
        except Exception as failed:
            if isinstance(failed, LeaseLost) or database_is_away(failed):
                raise
            # A mail that breaks us must not stop those behind it.
            log.exception("mail_broke_us", mail=str(request.mail), error=describe(failed))
            await _recover(resources, lease)
            await _not_sent(resources, account, request, Unreachable(describe(failed)))


async def _try(
    resources: Resource, lease: Lease, account: Account, request: Request, link: _Link
) -> None:
    """One try. Raises smtp.NotConnected where the server cannot be reached at all."""
    try:
        mail = await objects.get(resources.objects, request.raw.sha256)
    except objects.ObjectFault as fault:
        # Other bytes than were accepted are sent to nobody.
        log.warning("bytes_lost", mail=str(request.mail), problem=str(fault))
        await _not_sent(resources, account, request, Unreachable(str(fault)))
        return
    try:
        client, said = await _offer(resources, account, request, mail, link)
    except transaction.Lost as lost:
        link.lost += 1
        if link.lost >= LOST_IN_A_ROW:
            raise smtp.NotConnected(lost.problem, lost.code) from None
        await _not_sent(resources, account, request, Unreachable(lost.problem, lost.code))
        return
    link.lost = 0
    if not any(reply.is_positive for reply in said.values()):
        await _forget(link)
        await _not_sent(resources, account, request, Answered(said, None))
        return
    offered = _Offered(client, said, mail)
    # As one: a stop after the commit and before DATA would leave a mail unknown for nothing.
    await to_its_end(_give(resources, lease, account, request, offered, link), GRACE)


async def _offer(
    resources: Resource, account: Account, request: Request, mail: bytes, link: _Link
) -> tuple[SMTP, Mapping[str, Reply]]:
    """MAIL and RCPT; if a kept connection turns out to be dead, once more on a new one."""
    waiting = [target.address for target in request.targets if target.state == "pending"]
    client = await _connect(resources, account, link)
    was_kept = link.used
    try:
        link.used = link.in_transaction = True
        return client, await transaction.offer(client, request.sender, waiting, mail)
    except transaction.Lost:
        if not was_kept:
            raise
    client = await _connect(resources, account, link)
    link.used = link.in_transaction = True
    return client, await transaction.offer(client, request.sender, waiting, mail)


async def _connect(resources: Resource, account: Account, link: _Link) -> SMTP:
    """The kept connection, or a new one. Raises smtp.NotConnected."""
    is_kept = link.client and link.client.is_connected and not link.in_transaction
    if link.client and is_kept and link.server == account.smtp:
        return link.client
    await _disconnect(link)
    if not account.enabled or account.smtp is None:
        problem = "disabled" if not account.enabled else "without SMTP server"
        raise smtp.NotConnected(f"account {account.name} is {problem}")
    settings = resources.settings
    try:
        how = login(settings, account.smtp)
    except NoLogin as closed:
        raise smtp.NotConnected(str(closed)) from None
    link.client = await smtp.connect(how, link.context, settings.helo, settings.answer_seconds)
    link.server, link.used = account.smtp, False
    async with begin(resources.engine) as tx:
        await store.server_was_heard(tx, account.id, clock.now())
    crashpoint("sender.server_heard")
    return link.client


async def _forget(link: _Link) -> None:
    """Drop what was offered; the next mail is offered anew."""
    if link.client is not None:
        await transaction.forget(link.client)
    link.in_transaction = False


async def _disconnect(link: _Link) -> None:
    client, link.client, link.in_transaction = link.client, None, False
    if client is not None:
        await smtp.end(client)


async def _give(
    resources: Resource,
    lease: Lease,
    account: Account,
    request: Request,
    offered: _Offered,
    link: _Link,
) -> None:
    """DATA, with a commit before it and one after it."""
    if not await _begin(resources, lease, request, offered.said):
        await _forget(link)
        return
    crashpoint("sender.sending_committed")
    link.given.append(clock.now())
    tried = await _deliver(resources, lease, offered)
    link.in_transaction = not isinstance(tried, Answered)
    crashpoint("sender.data_answered")
    await _store(resources, account, request, tried)


async def _begin(
    resources: Resource, lease: Lease, request: Request, said: Mapping[str, Reply]
) -> bool:
    async with begin(resources.engine) as tx:
        await fence(tx, lease)
        return await store.begin(tx, request, said, resources.replica, clock.now())


async def _deliver(resources: Resource, lease: Lease, offered: _Offered) -> Try:
    begun = False
    try:
        with SMTP_SECONDS.time():
            async with while_held(lease):
                begun = True
                limit = resources.settings.data_seconds
                reply = await transaction.deliver(offered.client, offered.mail, limit)
    except transaction.BrokenOff as broken:
        return Unreachable(broken.problem)
    except transaction.NoAnswer as none:
        return Unanswered(offered.said, none.problem)
    except LeaseLost as lost:
        return Unanswered(offered.said, str(lost)) if begun else Unreachable(str(lost))
    return Answered(offered.said, reply)


async def _store(resources: Resource, account: Account, request: Request, tried: Try) -> None:
    """Store what DATA came to, as soon as there is a database: nobody else knows it."""
    while True:
        try:
            async with begin(resources.engine) as tx:
                await settle_data(tx, resources, account, request, tried, request.tries + 1)
        except Exception as error:
            if not database_is_away(error):
                raise
            log.warning("outcome_waits_for_database", mail=str(request.mail))
            await asyncio.sleep(0.5)
        else:
            crashpoint("sender.outcome_committed")
            return


async def _not_sent(resources: Resource, account: Account, request: Request, tried: Try) -> None:
    async with begin(resources.engine) as tx:
        await settle_try(tx, resources, account, request, tried)
    crashpoint("sender.try_committed")


async def _postpone_all(
    resources: Resource, lease: Lease, account: Account, failed: smtp.NotConnected
) -> None:
    """The server cannot be reached: one try for all that is due, not one each."""
    log.warning("server_unreachable", account=account.name, problem=failed.problem)
    now, tried = clock.now(), Unreachable(failed.problem, failed.code)
    async with begin(resources.engine) as tx:
        await rest(tx, lease, now + rest_after(refused=failed.is_refusal))
    crashpoint("sender.rest_committed")
    while True:
        async with begin(resources.engine) as tx:
            mails = await loading.due(tx, account.id, now, POSTPONED)
            # The longest due ones, but locked in the order in which all do (store.py).
            for request in sorted(mails, key=lambda mail: mail.mail):
                await settle_try(tx, resources, account, request, tried, waits_for_server=True)
        if len(mails) < POSTPONED:
            return
