"""Counts and logs what became of mails: one outcome line for each.

Invariant: a line holds ids, rule and duration; no address, no subject, no text.
"""

from collections.abc import Iterable
from datetime import datetime

import structlog
from prometheus_client import Counter, Histogram

from mailroom_ticketing.tickets import Decision

OPENED = Counter("mailroom_ticketing_opened", "Tickets opened", ["ticket_queue"])
JOINED = Counter("mailroom_ticketing_joined", "Mails that joined a ticket, by rule", ["rule"])
NOTED = Counter("mailroom_ticketing_noted", "Mails that opened and joined nothing", ["reason"])
SUGGESTED = Counter("mailroom_ticketing_suggested", "Claims left to a person", ["claim"])
ACKNOWLEDGED = Counter("mailroom_ticketing_acknowledged", "Tickets acknowledged")
WITHHELD = Counter("mailroom_ticketing_withheld", "Tickets not acknowledged, by reason", ["reason"])
AGE = Histogram(
    "mailroom_ticketing_received_to_ticket_seconds",
    "From the fetcher having a mail's bytes to its ticket",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)

log = structlog.get_logger("mailroom.ticketing")


def tell(decisions: Iterable[Decision], now: datetime) -> None:
    """Count and log decisions. A batch that is rolled back and tried again counts twice."""
    for each in decisions:
        seconds = (now - each.mail.received_at).total_seconds()
        _count(each, seconds)
        log.info(
            f"mail.{each.outcome.replace(' ', '_')}",
            mail=str(each.mail.id),
            ticket=each.ticket.number if each.ticket else None,
            rule=each.rule,
            withheld=each.withheld,
            seconds=round(seconds, 3),
            correlation_id=each.mail.correlation_id,
        )


def _count(decision: Decision, seconds: float) -> None:
    for suggestion in decision.suggestions:
        SUGGESTED.labels(suggestion.claim).inc()
    if decision.outcome == "joined":
        JOINED.labels(decision.rule).inc()
    elif decision.outcome != "opened" or decision.ticket is None:
        NOTED.labels(decision.rule).inc()
        return
    else:
        OPENED.labels(decision.ticket.queue.name).inc()
        _count_acknowledgement(decision)
    if not decision.mail.backfill and decision.placement is not None:
        AGE.observe(max(seconds, 0))


def _count_acknowledgement(decision: Decision) -> None:
    if decision.withheld is None:
        ACKNOWLEDGED.inc()
    else:
        WITHHELD.labels(decision.withheld).inc()
