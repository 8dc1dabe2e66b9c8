"""What becomes of a fetched mail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mailroom.contracts import ObjectRef
from mailroom.imap import Listed
from mailroom_fetcher.ledger import Place, Stored, arrival_id, arrivals, received, retry_at

START = datetime(2024, 5, 6, 12, 0, 0, 999999, tzinfo=UTC)
NOW = START + timedelta(hours=1)
PLACE = Place(UUID(int=1), START, 7, "INBOX", "inbox", 100)


def stored(uid: int, sha256: str = "a" * 64, internal_date: datetime | None = NOW) -> Stored:
    return Stored(Listed(uid, 10, internal_date, ("\\Seen",)), ObjectRef(sha256=sha256, size=10))


def test_a_mail_is_published_with_all_that_the_router_needs() -> None:
    (arrival,) = arrivals(PLACE, [stored(5)], {}, NOW)
    outgoing = received(PLACE, arrival)
    event = outgoing.event.model_dump()
    assert event == {
        "arrival": arrival.id,
        "account": PLACE.account,
        "folder": "INBOX",
        "role": "inbox",
        "uidvalidity": 100,
        "uid": 5,
        "internal_date": NOW,
        "flags": ("\\Seen",),
        "raw": {"sha256": "a" * 64, "size": 10},
        "backfill": False,
        "received_at": NOW,
    }
    assert outgoing.correlation_id == str(arrival.id)


def test_the_same_uid_is_the_same_arrival_and_event_again() -> None:
    first, second = (arrivals(PLACE, [stored(5)], {}, at)[0] for at in (NOW, NOW + timedelta(1)))
    assert first.id == second.id
    assert received(PLACE, first).event_id == received(PLACE, second).event_id


def test_a_rebuilt_database_numbers_folders_anew_but_not_arrivals() -> None:
    assert arrival_id(replace(PLACE, folder_id=8), 5) == arrival_id(PLACE, 5)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLACE, account=UUID(int=2)),
        replace(PLACE, folder="Sent"),
        replace(PLACE, uidvalidity=101),
    ],
)
def test_another_place_is_another_arrival(other: Place) -> None:
    assert arrival_id(other, 5) != arrival_id(PLACE, 5)


def test_known_bytes_are_joined() -> None:
    before = UUID(int=9)
    known, new = arrivals(PLACE, [stored(5), stored(6, "b" * 64)], {"a" * 64: before}, NOW)
    assert (known.state, known.joins) == ("joined", before)
    assert (new.state, new.joins) == ("published", None)


def test_a_mail_older_than_its_account_is_backfill() -> None:
    (old,) = arrivals(PLACE, [stored(5, internal_date=START - timedelta(seconds=1))], {}, NOW)
    assert old.backfill


def test_a_mail_of_the_accounts_first_second_is_not_backfill() -> None:
    """Internal dates have no fractions: the mail may have come after the start."""
    (same,) = arrivals(PLACE, [stored(5, internal_date=START.replace(microsecond=0))], {}, NOW)
    assert not same.backfill


def test_a_mail_without_a_date_came_when_it_was_fetched() -> None:
    (undated,) = arrivals(PLACE, [stored(5, internal_date=None)], {}, NOW)
    assert (undated.internal_date, undated.backfill) == (NOW, False)


def test_a_parked_mail_is_asked_for_again_later_and_later_and_for_ever() -> None:
    pauses = [retry_at(tries, NOW) - NOW for tries in range(1, 10)]
    assert pauses[0] == timedelta(minutes=1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] == timedelta(hours=6)
