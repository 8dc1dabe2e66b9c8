"""What follows from a try: who is tried again, what is told, and that nobody gets it twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mailroom_sender.outcomes import (
    Answered,
    Before,
    Policy,
    Reply,
    Target,
    Unanswered,
    Unreachable,
    Verdict,
    Word,
    cancel,
    decide,
    give_up,
    release,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy(
    pauses=[MINUTE, 5 * MINUTE],
    give_up=NOON + timedelta(days=3),
    unknown="resend",
    unknown_tries=3,
)
LAST_CHANCE = replace(POLICY, give_up=NOON)
HOLD = replace(POLICY, unknown="hold")
OK, LATER, NEVER = Reply(250, "ok"), Reply(451, "later"), Reply(550, "no such user")
ANNA, BERT = Target("anna@example.com"), Target("bert@example.com")
BOTH = Before((ANNA, BERT))


def answered(anna: Reply, bert: Reply, data: Reply | None = OK) -> Answered:
    return Answered({ANNA.address: anna, BERT.address: bert}, data)


def states(verdict: Verdict) -> list[str]:
    return [target.state for target in verdict.targets]


def then(before: Before, verdict: Verdict) -> Before:
    return Before(
        verdict.targets, before.left or verdict.tell_sent, verdict.failures, verdict.unknowns
    )


def test_accepted_for_all_is_sent_and_told_once() -> None:
    verdict = decide(BOTH, answered(OK, OK, Reply(250, "queued as 7")), NOON, POLICY)
    assert (verdict.state, verdict.due, verdict.tell_sent) == ("sent", None, True)
    assert verdict.failed is None
    assert {target.reply for target in verdict.targets} == {"queued as 7"}


def test_refused_for_good_fails_at_once() -> None:
    verdict = decide(BOTH, answered(NEVER, NEVER, None), NOON, POLICY)
    assert (verdict.state, verdict.failed, verdict.due) == ("failed", "refused", None)
    assert [target.code for target in verdict.told] == [550, 550]


def test_refused_after_data_fails_for_all_who_were_offered() -> None:
    verdict = decide(BOTH, answered(OK, OK, Reply(554, "content")), NOON, POLICY)
    assert (verdict.state, verdict.failed) == ("failed", "refused")
    assert [target.reply for target in verdict.told] == ["content", "content"]


def test_refused_for_now_is_tried_again() -> None:
    for tried in (
        answered(LATER, LATER, None),
        answered(OK, OK, Reply(451, "later")),
        Unreachable("connection refused"),
    ):
        verdict = decide(BOTH, tried, NOON, POLICY)
        assert (verdict.state, verdict.due) == ("accepted", NOON + MINUTE)
        assert states(verdict) == ["pending", "pending"]
        assert not verdict.tell_sent
        assert verdict.failed is None


def test_pauses_grow_with_each_failure() -> None:
    first = decide(BOTH, Unreachable("down"), NOON, POLICY)
    second = decide(then(BOTH, first), Unreachable("down"), NOON, POLICY)
    assert second.due == NOON + 5 * MINUTE


def test_after_the_last_chance_it_has_expired() -> None:
    verdict = decide(BOTH, Unreachable("connection refused"), NOON, LAST_CHANCE)
    assert (verdict.state, verdict.failed, verdict.due) == ("failed", "expired", None)
    assert [target.reply for target in verdict.told] == ["connection refused"] * 2


def test_whoever_was_refused_for_now_is_tried_again_alone() -> None:
    first = decide(BOTH, answered(OK, LATER), NOON, POLICY)
    assert (first.state, states(first)) == ("sent", ["accepted", "pending"])
    assert (first.tell_sent, first.due) == (True, NOON + MINUTE)
    again = Answered({BERT.address: OK}, OK)
    second = decide(then(BOTH, first), again, NOON, POLICY)
    assert (second.state, states(second)) == ("sent", ["accepted", "accepted"])
    assert (second.tell_sent, second.failed, second.due) == (False, None, None)


def test_what_was_said_of_the_others_stays() -> None:
    first = decide(BOTH, answered(OK, LATER), NOON, POLICY)
    for tried in (Unreachable("down"), answered(NEVER, LATER, None)):
        second = decide(then(BOTH, first), tried, NOON, POLICY)
        assert second.targets[0] == first.targets[0]


def test_who_is_refused_only_later_is_told_alone() -> None:
    first = decide(BOTH, answered(OK, LATER), NOON, POLICY)
    second = decide(then(BOTH, first), Answered({BERT.address: NEVER}, None), NOON, POLICY)
    assert (second.state, second.failed) == ("sent", "refused")
    assert [target.address for target in second.told] == [BERT.address]


def test_whom_mail_sent_told_of_is_not_told_again() -> None:
    verdict = decide(BOTH, answered(OK, NEVER), NOON, POLICY)
    assert (verdict.state, verdict.tell_sent, verdict.failed) == ("sent", True, None)
    assert states(verdict) == ["accepted", "refused"]


def test_who_expires_with_the_first_acceptance_is_told_besides() -> None:
    verdict = decide(BOTH, answered(OK, LATER), NOON, LAST_CHANCE)
    assert (verdict.tell_sent, verdict.failed) == (True, "expired")
    assert [target.address for target in verdict.told] == [BERT.address]


def test_too_many_recipients_at_once_are_sent_to_in_turn_without_a_pause() -> None:
    verdict = decide(BOTH, answered(OK, Reply(452, "too many")), NOON, POLICY)
    assert (verdict.due, verdict.failures) == (NOON, 0)
    stuck = decide(BOTH, answered(Reply(452, "too many"), LATER, None), NOON, POLICY)
    assert stuck.due == NOON + MINUTE


def test_unknown_is_sent_again_where_the_account_says_so() -> None:
    verdict = decide(BOTH, Unanswered({ANNA.address: OK, BERT.address: OK}, "cut"), NOON, POLICY)
    assert (verdict.state, verdict.due, verdict.unknowns) == ("accepted", NOON + MINUTE, 1)
    assert states(verdict) == ["pending", "pending"]
    assert verdict.failed is None


def test_unknown_is_held_where_the_account_says_so_and_tells_of_those_it_concerns() -> None:
    tried = Unanswered({ANNA.address: OK, BERT.address: LATER}, "cut")
    verdict = decide(BOTH, tried, NOON, HOLD)
    assert (verdict.state, verdict.due, verdict.failed) == ("unknown", None, "unknown")
    assert [(target.address, target.reply) for target in verdict.told] == [(ANNA.address, "cut")]


def test_a_mail_whose_end_stays_unknown_is_not_sent_for_ever() -> None:
    before, tried = BOTH, Unanswered({ANNA.address: OK, BERT.address: OK}, "cut")
    for _ in range(2):
        verdict = decide(before, tried, NOON, POLICY)
        assert verdict.state == "accepted"
        before = then(before, verdict)
    assert decide(before, tried, NOON, POLICY).state == "unknown"


def test_unknown_and_then_out_of_time_stays_unknown() -> None:
    tried = Unanswered({ANNA.address: OK, BERT.address: OK}, "cut")
    assert decide(BOTH, tried, NOON, LAST_CHANCE).failed == "unknown"


def test_a_refusal_after_an_unknown_end_does_not_say_that_it_never_left() -> None:
    before = replace(BOTH, unknowns=1)
    refused = decide(before, answered(NEVER, NEVER, None), NOON, POLICY)
    assert (refused.state, refused.failed) == ("unknown", "unknown")
    assert give_up(before, "expired").failed == "unknown"
    late = cancel("accepted", before)
    assert late is not None
    assert (late.state, late.failed) == ("unknown", "unknown")


def test_a_removed_account_fails_what_waited_for_it() -> None:
    verdict = give_up(BOTH, "account_removed")
    assert (verdict.state, verdict.failed, len(verdict.told)) == ("failed", "account_removed", 2)
    partly = Before((replace(ANNA, state="accepted"), BERT), left=True)
    rest = give_up(partly, "account_removed")
    assert (rest.state, [target.address for target in rest.told]) == ("sent", [BERT.address])


def test_only_what_has_not_left_is_cancelled() -> None:
    verdict = cancel("accepted", BOTH)
    assert verdict is not None
    assert (verdict.state, verdict.due, verdict.failed) == ("cancelled", None, None)
    for late in ("sending", "sent", "failed", "unknown", "cancelled"):
        assert cancel(late, BOTH) is None


CARL = Target("carl@example.com")
ALL = Before((ANNA, BERT, CARL))


def held() -> Before:
    """Anna was offered the mail, and nobody knows; Bert was refused for good, Carl for now."""
    said = {ANNA.address: OK, BERT.address: NEVER, CARL.address: LATER}
    verdict = decide(ALL, Unanswered(said, "cut"), NOON, HOLD)
    assert verdict.state == "unknown"
    return then(ALL, verdict)


def test_taken_for_arrived_are_those_of_whom_nobody_knew_and_the_rest_is_tried_on() -> None:
    verdict = release(held(), "arrived", NOON)
    assert (verdict.state, verdict.tell_sent, verdict.due) == ("sent", True, NOON)
    assert states(verdict) == ["accepted", "refused", "pending"]
    last = decide(then(held(), verdict), Answered({CARL.address: OK}, OK), NOON, HOLD)
    assert (last.state, states(last), last.failed) == (
        "sent",
        ["accepted", "refused", "accepted"],
        None,
    )


def test_taken_for_dropped_are_those_of_whom_nobody_knew_and_the_rest_is_tried_on() -> None:
    verdict = release(held(), "dropped", NOON)
    assert (verdict.state, verdict.failed, verdict.due) == ("accepted", None, NOON)
    assert states(verdict) == ["refused", "refused", "pending"]
    dropped = then(held(), verdict)
    sent = decide(dropped, Answered({CARL.address: OK}, OK), NOON, HOLD)
    assert (sent.state, sent.tell_sent, sent.unknowns) == ("sent", True, 0)
    failed = decide(dropped, Answered({CARL.address: NEVER}, None), NOON, HOLD)
    assert (failed.state, failed.failed, len(failed.told)) == ("failed", "refused", 3)


def test_who_was_refused_beside_those_of_whom_nobody_knew_is_told_when_they_are_dropped() -> None:
    tried = Unanswered({ANNA.address: OK, BERT.address: NEVER}, "cut")
    verdict = release(then(BOTH, decide(BOTH, tried, NOON, HOLD)), "dropped", NOON)
    assert (verdict.state, verdict.failed, verdict.due) == ("failed", "refused", None)
    assert [target.address for target in verdict.told] == [BERT.address]


def test_sent_again_are_those_of_whom_nobody_knew_and_who_was_refused_for_now() -> None:
    verdict = release(held(), "again", NOON)
    assert (verdict.state, verdict.due) == ("accepted", NOON)
    assert states(verdict) == ["pending", "refused", "pending"]


def test_of_whom_nobody_knew_in_an_earlier_try_nobody_knows_still() -> None:
    """Bert may have the first one, though it was refused for now the second time."""
    both = Unanswered({ANNA.address: OK, BERT.address: OK}, "cut")
    before = then(BOTH, decide(BOTH, both, NOON, POLICY))
    one = Unanswered({ANNA.address: OK, BERT.address: LATER}, "cut")
    verdict = decide(before, one, NOON, HOLD)
    assert [target.address for target in verdict.told] == [ANNA.address, BERT.address]
    assert states(release(then(before, verdict), "arrived", NOON)) == ["accepted", "accepted"]


def test_who_is_refused_for_good_may_have_had_it_from_an_earlier_try() -> None:
    both = Unanswered({ANNA.address: OK, BERT.address: OK}, "cut")
    before = then(BOTH, decide(BOTH, both, NOON, POLICY))
    refused = decide(before, answered(NEVER, NEVER, None), NOON, POLICY)
    verdict = release(then(before, refused), "arrived", NOON)
    assert (verdict.state, states(verdict)) == ("sent", ["accepted", "accepted"])


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_is_over_is_tried_for_nobody_when_its_hold_ends(end: str) -> None:
    said = {ANNA.address: OK, BERT.address: NEVER, CARL.address: LATER}
    before = then(ALL, decide(ALL, Unanswered(said, "cut"), NOON, POLICY))
    over = cancel("accepted", before) if end == "cancelled" else give_up(before, "expired")
    assert over is not None
    assert (over.state, len(over.told)) == ("unknown", 3)
    words: dict[Word, str] = {"arrived": "accepted", "dropped": "refused"}
    for word, state in words.items():
        verdict = release(then(before, over), word, NOON)
        assert (verdict.due, states(verdict)) == (None, [state, "refused", "refused"])


@pytest.mark.parametrize("tried", ["answered", "resent", "held"])
def test_who_is_refused_after_mail_sent_is_told_though_others_are_still_tried(tried: str) -> None:
    first = Answered({ANNA.address: OK, BERT.address: LATER, CARL.address: LATER}, OK)
    before = then(ALL, decide(ALL, first, NOON, POLICY))
    if tried == "answered":
        second = Answered({BERT.address: NEVER, CARL.address: LATER}, None)
        verdict = decide(before, second, NOON, POLICY)
        assert verdict.failed == "refused"
    else:
        cut = Unanswered({BERT.address: NEVER, CARL.address: OK}, "cut")
        verdict = decide(before, cut, NOON, HOLD if tried == "held" else POLICY)
    told = [target.address for target in verdict.told]
    assert told == [BERT.address, *([CARL.address] if tried == "held" else [])]


def test_of_a_mail_held_by_an_earlier_version_all_who_wait_are_meant() -> None:
    """It had not written down of whom nobody knows."""
    before = replace(BOTH, unknowns=1)
    assert states(release(before, "arrived", NOON)) == ["accepted", "accepted"]
    refused = replace(before, targets=tuple(replace(t, state="refused") for t in BOTH.targets))
    assert states(release(refused, "again", NOON)) == ["pending", "pending"]
