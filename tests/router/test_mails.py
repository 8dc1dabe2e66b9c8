from typing import get_args
from uuid import UUID, uuid4

import pytest

from mailroom.contracts import FolderRole
from mailroom_router.mails import (
    TRIES_FOR_MAIL_SENT,
    Arrival,
    candidates,
    header_id,
    id_of,
    known_by,
    mail_id,
    named_id,
    overtook_mail_sent,
    placement_id,
)
from tests.router.samples import a_mail, an_arrival

OURS = uuid4()
STAMPED = a_mail(headers=(("X-Mailroom-Mail", str(OURS)),), from_=["service@firm.example"])


def test_ids_never_change() -> None:
    mail = mail_id("fingerprint-1")
    assert mail == UUID("c0f43091-d2e5-5e59-81a9-3750feb2eb6a")
    assert placement_id(mail, UUID(int=1), UUID(int=2)) == UUID(
        "fed76455-3605-581a-a01d-84488c0393ba"
    )


def test_the_header_of_ours_is_believed_in_sent_folders_alone() -> None:
    assert named_id(STAMPED, "sent") == OURS
    for role in get_args(FolderRole):
        assert (named_id(STAMPED, role) is not None) == (role == "sent")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("X-Mailroom-Mail", "not an id"),),
        (("X-Mailroom-Mail", ""),),
        (("X-Mailroom-Mail", str(OURS)), ("x-mailroom-mail", str(uuid4()))),
    ],
)
def test_a_header_that_is_none_or_stands_twice_names_nothing(
    headers: tuple[tuple[str, str], ...],
) -> None:
    assert header_id(a_mail(headers=headers)) is None


def test_a_mail_has_the_id_of_its_fingerprint_or_the_one_registered_for_it() -> None:
    arrival = an_arrival()
    assert candidates([arrival]) == {"fingerprint-1": mail_id("fingerprint-1")}
    assert id_of(arrival, {"fingerprint-1": OURS}) == OURS


def test_a_copy_in_sent_names_the_mail_for_its_fingerprint() -> None:
    copy, arrival = an_arrival(STAMPED, role="sent"), an_arrival(STAMPED)
    assert candidates([arrival, copy]) == {"fingerprint-1": OURS}
    assert candidates([copy, arrival]) == {"fingerprint-1": OURS}
    assert id_of(copy, {"fingerprint-1": uuid4()}) == OURS


def test_the_second_of_two_copies_in_a_batch_is_known_by_the_first() -> None:
    arrivals = [an_arrival(), an_arrival(), an_arrival(fingerprint="fingerprint-2")]
    assert known_by(arrivals, frozenset({"fingerprint-1"})) == [None, "fingerprint", "fingerprint"]


def test_a_copy_in_sent_is_known_by_its_header() -> None:
    assert known_by([an_arrival(STAMPED, role="sent")], frozenset({"fingerprint-1"})) == ["header"]


NEW = frozenset({"fingerprint-1"})
SENDERS = frozenset({"service@firm.example"})


def test_a_copy_that_overtakes_mail_sent_waits_for_it() -> None:
    both = [an_arrival(a_mail()), an_arrival(STAMPED)]
    assert overtook_mail_sent(both, NEW, SENDERS) == OURS


@pytest.mark.parametrize(
    ("arrival", "new", "why"),
    [
        (an_arrival(STAMPED), frozenset[str](), "it is registered"),
        (an_arrival(STAMPED, role="sent"), NEW, "its header says all"),
        (an_arrival(STAMPED, tries=TRIES_FOR_MAIL_SENT), NEW, "it has waited"),
        (an_arrival(a_mail(headers=STAMPED.headers)), NEW, "it is from a stranger"),
        (an_arrival(a_mail(from_=["service@firm.example"])), NEW, "it has no header of ours"),
    ],
)
def test_no_other_mail_waits(arrival: Arrival, new: frozenset[str], why: str) -> None:
    assert overtook_mail_sent([arrival], new, SENDERS) is None
