"""The model finds what it is there to find; else the kill tests would prove nothing."""

from dataclasses import replace

from tests.faults.model import Answer, Mail, Seen, violations

ANNA, BERT = "anna@customer.test", "bert@customer.test"
FIRST, SECOND = Mail("first", ANNA), Mail("second", BERT)
MORE = Mail("more", ANNA, joins="first")
MAILS = [FIRST, SECOND, MORE]
GOOD = Seen(
    tickets={1: ["first", "more"], 2: ["second"]},
    inboxes={ANNA: [Answer("ack-1", "first", "A")], BERT: [Answer("ack-2", "second", "B")]},
    sent=["ack-1", "ack-2"],
    doubtful={},
    parked=[],
)


def test_it_finds_nothing_where_all_is_as_it_must_be() -> None:
    assert violations(MAILS, GOOD) == []


def test_it_finds_a_lost_mail_and_a_second_ticket() -> None:
    lost = replace(GOOD, tickets={1: ["first"], 2: ["second"]})
    assert len(violations(MAILS, lost)) == 2
    doubled = replace(GOOD, tickets={**GOOD.tickets, 3: ["second"]})
    assert violations(MAILS, doubled) == [
        "ticket 3 should not be there, or not so: ['second']",
    ]


def test_it_finds_a_mail_that_stands_twice_in_its_dialogue_or_at_the_wrong_ticket() -> None:
    twice = replace(GOOD, tickets={1: ["first", "more", "more"], 2: ["second"]})
    assert len(violations(MAILS, twice)) == 1
    wrong = replace(GOOD, tickets={1: ["first"], 2: ["second", "more"]})
    assert len(violations(MAILS, wrong)) == 4


def test_it_finds_a_missing_acknowledgement_and_one_too_many() -> None:
    missing = replace(GOOD, inboxes={ANNA: GOOD.inboxes[ANNA], BERT: []})
    assert violations(MAILS, missing) == ["second has 0 acknowledgements, not one: []"]
    another = [*GOOD.inboxes[BERT], Answer("ack-3", "second", "C")]
    assert len(violations(MAILS, replace(GOOD, inboxes={**GOOD.inboxes, BERT: another}))) == 1
    needless = [*GOOD.inboxes[ANNA], Answer("ack-3", "more", "C")]
    assert violations(MAILS, replace(GOOD, inboxes={**GOOD.inboxes, ANNA: needless})) == [
        "first has 2 acknowledgements, not one: ['ack-1', 'ack-3']"
    ]


def test_an_acknowledgement_may_come_once_more_for_each_time_that_it_is_shown_as_unknown() -> None:
    once, again, yet_again = (Answer("ack-2", "second", name) for name in "BCD")
    twice = replace(GOOD, inboxes={**GOOD.inboxes, BERT: [once, again]})
    assert len(violations(MAILS, twice)) == 1
    told = replace(twice, doubtful={"ack-2": 1})
    assert violations(MAILS, told) == []
    thrice = replace(told, inboxes={**GOOD.inboxes, BERT: [once, again, yet_again]})
    assert len(violations(MAILS, thrice)) == 1


def test_what_postfix_delivers_again_was_sent_once() -> None:
    by_postfix = replace(GOOD, inboxes={**GOOD.inboxes, BERT: [*GOOD.inboxes[BERT]] * 2})
    assert violations(MAILS, by_postfix) == []


def test_it_finds_a_missing_copy_in_sent_and_a_second_one() -> None:
    for sent in (["ack-1"], ["ack-1", "ack-2", "ack-2"]):
        assert len(violations(MAILS, replace(GOOD, sent=sent))) == 1


def test_it_finds_what_is_parked() -> None:
    assert violations(MAILS, replace(GOOD, parked=["tried 12 times"])) == ["parked: tried 12 times"]


def test_of_two_mails_of_a_conversation_either_may_be_acknowledged_and_not_both() -> None:
    the_later = replace(GOOD, inboxes={**GOOD.inboxes, ANNA: [Answer("ack-1", "more", "A")]})
    assert violations(MAILS, the_later) == []
    both = [Answer("ack-1", "first", "A"), Answer("ack-3", "more", "C")]
    assert len(violations(MAILS, replace(GOOD, inboxes={**GOOD.inboxes, ANNA: both}))) == 1


def test_it_finds_an_answer_to_what_must_not_be_answered_and_one_to_nothing() -> None:
    automatic = [replace(FIRST, is_acknowledged=False), SECOND, MORE]
    assert violations(automatic, GOOD) == ["first is answered by ack-1, and should not be"]
    unasked = [*GOOD.inboxes[BERT], Answer("ack-3", "nothing", "C")]
    assert violations(MAILS, replace(GOOD, inboxes={**GOOD.inboxes, BERT: unasked})) == [
        "bert@customer.test got ack-3, which nobody should have sent"
    ]


def test_only_what_the_case_means_to_park_may_be_parked() -> None:
    parked = replace(GOOD, parked=["this account is gone"])
    assert violations(MAILS, parked) == ["parked: this account is gone"]
    assert violations(MAILS, parked, ["account is gone"]) == []
