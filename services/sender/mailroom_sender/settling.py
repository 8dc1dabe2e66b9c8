"""From what a try came to, to what is stored and told of it.

Invariant: decided on the locked row, and stored with its events in one transaction. An answer that
comes late, after others took the mail for unknown, still counts, unless it was tried again since.
"""

from datetime import timedelta
from typing import Literal

import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.directory import Account
from mailroom.messaging import outbox
from mailroom.messaging.envelope import Outgoing
from mailroom.service import Resources
from mailroom_sender import loading, outcomes, requests, schedule, store
from mailroom_sender.outcomes import Answered, Policy, Try, Unreachable, Verdict
from mailroom_sender.requests import Request
from mailroom_sender.settings import SenderSettings

log = structlog.get_logger("mailroom.sender.settling")

SENT = Counter("mailroom_sender_sent_total", "mails that a server took for a recipient")
FAILED = Counter("mailroom_sender_failed_total", "mails of which a recipient failed", ["reason"])
DEFERRED = Counter("mailroom_sender_deferred_total", "tries after which a mail waits for another")
UNKNOWN = Counter("mailroom_sender_unknown_total", "tries of which nobody knows the end")

Resource = Resources[SenderSettings]


async def settle_try(
    tx: AsyncConnection,
    resources: Resource,
    account: Account,
    request: Request,
    tried: Try,
    *,
    waits_for_server: bool = False,
) -> None:
    """What follows from a try that never came to DATA.

    Nothing does where the mail was cancelled, or tried by others, since `request` was read.
    """
    now = clock.now()
    fresh = await loading.get(tx, request.mail)
    if fresh is None or fresh.tries != request.tries or fresh.due is None:
        return
    number = fresh.tries + 1
    await store.insert_attempt(tx, fresh, number, {}, resources.replica, now)
    await _end_attempt(tx, fresh, number, tried)
    verdict = outcomes.decide(fresh.before, tried, now, _policy(resources, account, fresh))
    waits = waits_for_server and verdict.due is not None
    events = await apply(
        tx, fresh, verdict, _last_word(tried)[1], tries=number, waits_for_server=waits
    )
    await _tell(tx, resources, fresh, verdict, tried, events)


async def settle_data(
    tx: AsyncConnection,
    resources: Resource,
    account: Account | None,
    request: Request,
    tried: Try,
    number: int,
) -> None:
    """What follows from attempt `number`, which came to DATA."""
    fresh = await loading.get(tx, request.mail)
    if fresh is None or (fresh.state != "sending" and not isinstance(tried, Answered)):
        return
    await _end_attempt(tx, fresh, number, tried)
    if fresh.tries != number or fresh.state in ("failed", "cancelled"):
        return
    policy = _policy(resources, account, fresh)
    verdict = outcomes.decide(fresh.before, tried, clock.now(), policy)
    events = await apply(tx, fresh, verdict, _last_word(tried)[1])
    await _tell(tx, resources, fresh, verdict, tried, events)


async def stop(
    tx: AsyncConnection,
    resources: Resource,
    request: Request,
    reason: Literal["expired", "account_removed"],
) -> None:
    """Try no more."""
    fresh = await loading.get(tx, request.mail)
    if fresh is None or fresh.tries != request.tries or fresh.due is None:
        return
    verdict = outcomes.give_up(fresh.before, reason)
    events = await apply(tx, fresh, verdict, "")
    await _tell(tx, resources, fresh, verdict, None, events)


async def apply(
    tx: AsyncConnection, request: Request, verdict: Verdict, reply: str, **more: int | bool
) -> list[Outgoing]:
    """Store a verdict; the events that tell of it, to be published with it."""
    now = clock.now()
    await store.settle(tx, request, verdict, now, **more)
    events = requests.told(request, verdict, reply, now)
    return [Outgoing(event, request.correlation_id) for event in events]


async def _tell(
    tx: AsyncConnection,
    resources: Resource,
    request: Request,
    verdict: Verdict,
    tried: Try | None,
    events: list[Outgoing],
) -> None:
    await outbox.add(tx, resources.messaging, events)
    UNKNOWN.inc(verdict.unknowns - request.unknowns)
    DEFERRED.inc(verdict.due is not None)
    SENT.inc(verdict.tell_sent)
    if verdict.failed is not None:
        FAILED.labels(verdict.failed).inc()
    code, reply = _last_word(tried)
    log.info(
        "mail_tried",
        mail=str(request.mail),
        account=str(request.account),
        correlation_id=request.correlation_id,
        outcome=_outcome(tried),
        state=verdict.state,
        failed=verdict.failed,
        due=verdict.due.isoformat() if verdict.due else None,
        code=code,
        reply=reply,
    )


async def _end_attempt(tx: AsyncConnection, request: Request, number: int, tried: Try) -> None:
    code, reply = _last_word(tried)
    await store.end_attempt(tx, request, number, clock.now(), (_outcome(tried), code, reply))


def _policy(resources: Resource, account: Account | None, request: Request) -> Policy:
    settings = resources.settings
    patience = timedelta(days=settings.retry_days)
    return Policy(
        pauses=settings.pauses,
        give_up=schedule.give_up(request.first_due, patience, request.expires_at),
        # Of an account that is gone, nobody has said that a mail may go twice.
        unknown=account.unknown if account else "hold",
        unknown_tries=settings.unknown_tries,
    )


def _outcome(tried: Try | None) -> str:
    match tried:
        case None:
            return "none"
        case Unreachable():
            return "unreachable"
        case Answered(data=data):
            return "accepted" if data is not None and data.is_positive else "refused"
    return "unknown"


def _last_word(tried: Try | None) -> tuple[int | None, str]:
    """Code and text of what the server said last."""
    match tried:
        case None:
            return None, ""
        case Unreachable(problem=problem, code=code):
            return code, problem
        case Answered(recipients=said, data=data):
            last = data or list(said.values())[-1]
            return last.code, f"{last.code} {last.text}"
    return None, tried.problem
