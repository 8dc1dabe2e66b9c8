"""Numbers for an operator."""

from prometheus_client import REGISTRY

from mailroom_ticketing.observing import tell
from tests.ticketing.desk import STRANGER, bring_all, desk, later, mail


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"mailroom_ticketing_{name}", labels) or 0


def test_decisions_are_counted_by_what_they_were() -> None:
    known, first = desk(), mail()
    decided = bring_all(known, first)
    bulk = mail(STRANGER, subject="[#1]", auto="bulk")
    decided += bring_all(known, mail(answers=first), bulk, mail(spam=True))
    samples = [
        ("opened_total", {"ticket_queue": "Service"}, 2),
        ("joined_total", {"rule": "reference"}, 1),
        ("noted_total", {"reason": "spam"}, 1),
        ("suggested_total", {"claim": "number unsigned"}, 1),
        ("acknowledged_total", {}, 1),
        ("withheld_total", {"reason": "automatic mail"}, 1),
        ("received_to_ticket_seconds_count", {}, 3),
        ("received_to_ticket_seconds_sum", {}, 6),
    ]
    before = [value(name, **labels) for name, labels, _ in samples]
    tell(decided, later(seconds=2))
    grown = [value(name, **labels) for name, labels, _ in samples]
    assert [new - old for new, old in zip(grown, before, strict=True)] == [
        wanted for *_, wanted in samples
    ]
