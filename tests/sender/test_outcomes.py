"""What follows from a try: who is tried again, what is told, and that nobody gets it twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mailroom_sender.outcomes import (
    Answered,
    Before,
    Policy,
    Reply,
    Target,
    Unanswered,
    Unreachable,
    Verdict,
    cancel,
    decide,
    give_up,
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
