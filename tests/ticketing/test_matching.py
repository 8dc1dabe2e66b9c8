"""Which ticket a mail belongs to: what is believed, in which order, and what is not."""

import pytest

from mailroom_ticketing.tags import Ring, sign
from tests.ticketing.desk import (
    COLLEAGUE,
    CUSTOMER,
    RING,
    SALES_MAILBOX,
    STRANGER,
    US,
    answer,
    bring,
    bring_all,
    desk,
    mail,
    ticket_of,
)


def claims(decision: object) -> list[tuple[str, int]]:
    return [(each.claim, each.ticket.number) for each in decision.suggestions]  # type: ignore[attr-defined]


def test_a_reply_joins_by_the_message_id_that_it_references() -> None:
    known, first = desk(), mail()
    bring(known, first)
    decision = bring(known, mail(answers=first))
    assert (decision.outcome, decision.rule) == ("joined", "reference")
    assert decision.evidence == {
        "message_id": first.message_id,
        "mail": str(first.id),
        "by": CUSTOMER,
    }


def test_two_mails_of_one_conversation_in_one_batch_are_one_ticket() -> None:
    known, first = desk(), mail()
    opened, joined = bring_all(known, first, mail(answers=first))
    assert (opened.outcome, joined.outcome) == ("opened", "joined")
    assert joined.ticket is opened.ticket
    assert len(known.tickets) == 1


def test_the_newest_known_ancestor_wins() -> None:
    known, old, new = desk(), mail(), mail()
    bring_all(known, old, new)
    both = mail(references=(old.message_id, new.message_id))
    assert bring(known, both).ticket is ticket_of(known, new)


def test_a_message_id_is_trusted_before_a_signed_tag() -> None:
    known, first, other = desk(), mail(), mail()
    bring_all(known, first, other)
    tag = sign(RING, known.at[other.id].number)
    assert bring(known, mail(answers=first, subject=f"Re: {tag}")).ticket is ticket_of(known, first)


def test_a_mail_that_answers_one_that_we_never_saw_joins_its_sibling() -> None:
    known = desk()
    bring(known, mail(references=("unseen@mail.example",)))
    assert bring(known, mail(references=("unseen@mail.example",))).rule == "reference"


def test_whoever_was_in_copy_takes_part() -> None:
    known, first = desk(), mail(to=(US, COLLEAGUE))
    bring(known, first)
    assert bring(known, mail(COLLEAGUE, answers=first)).outcome == "joined"


def test_a_strangers_mail_with_a_guessed_message_id_opens_its_own_ticket() -> None:
    known, first = desk(), mail()
    bring(known, first)
    decision = bring(known, mail(STRANGER, answers=first))
    assert decision.outcome == "opened"
    assert decision.ticket is not ticket_of(known, first)
    assert claims(decision) == [("stranger's reference", 1)]


def test_a_stranger_does_not_take_part_by_referencing() -> None:
    known, first = desk(), mail()
    bring_all(known, first, mail(STRANGER, answers=first))
    assert bring(known, mail(answers=first)).ticket is ticket_of(known, first)
    assert STRANGER not in known.at[first.id].participants


def test_an_original_that_its_reply_overtook_joins_the_replys_ticket() -> None:
    known, original = desk(), mail(to=(US, COLLEAGUE))
    overtaking = mail(COLLEAGUE, answers=original, to=(US, CUSTOMER))
    bring(known, overtaking)
    decision = bring(known, original)
    assert (decision.outcome, decision.rule) == ("joined", "referenced")
    assert decision.ticket is ticket_of(known, overtaking)


def test_a_stranger_who_referenced_a_mail_first_does_not_catch_it() -> None:
    known, original = desk(), mail()
    bring(known, mail(STRANGER, answers=original))
    decision = bring(known, original)
    assert decision.outcome == "opened"
    assert claims(decision) == [("answered late", 2)]


def test_headers_lost_and_the_tag_kept_joins() -> None:
    known, first = desk(), mail()
    bring(known, first)
    decision = bring(known, mail(subject=f"AW: AW: {sign(RING, 1)} Printer on fire"))
    assert (decision.outcome, decision.rule) == ("joined", "tag")
    assert decision.evidence == {"tag": sign(RING, 1)}


def test_a_right_tag_joins_from_an_address_that_nobody_knows() -> None:
    known, first = desk(), mail()
    bring(known, first)
    decision = bring(known, mail("kim@home.example", subject=f"Fwd: {sign(RING, 1)}"))
    assert decision.ticket is ticket_of(known, first)
    assert "kim@home.example" in known.at[first.id].participants


@pytest.mark.parametrize(
    ("tag", "claim"),
    [
        ("[#1]", "number unsigned"),
        ("[#1-aaaaa]", "number wrongly signed"),
        (sign(Ring("another installation", RING.keys), 1), "number wrongly signed"),
    ],
)
@pytest.mark.parametrize("sender", [CUSTOMER, STRANGER])
def test_a_number_without_its_mac_opens_a_ticket_and_is_a_suggestion(
    tag: str, claim: str, sender: str
) -> None:
    known = desk()
    bring(known, mail())
    decision = bring(known, mail(sender, subject=f"Re: {tag} Printer on fire"))
    assert decision.outcome == "opened"
    assert claims(decision) == [(claim, 1)]


def test_a_number_that_is_no_ticket_suggests_nothing() -> None:
    assert bring(desk(), mail(subject="Re: [#99]")).suggestions == []


def test_a_right_tag_behind_a_forged_one_joins() -> None:
    known = desk()
    bring_all(known, mail(), mail())
    decision = bring(known, mail(subject=f"Re: [#1-aaaaa] {sign(RING, 2)}"))
    assert decision.ticket is known.tickets[2]


def test_a_colleagues_answer_seen_in_sent_joins_as_outgoing() -> None:
    known, first = desk(), mail()
    bring(known, first)
    decision = bring(known, answer(answers=first))
    assert (decision.outcome, decision.mail.direction) == ("joined", "out")
    assert decision.evidence["by"] == "one of us"


def test_whoever_a_colleague_forwards_a_mail_to_takes_part() -> None:
    known, first = desk(), mail()
    bring(known, first)
    forwarded = answer("help@supplier.example", answers=first)
    bring(known, forwarded)
    joined = bring(known, mail("help@supplier.example", answers=forwarded))
    assert joined.ticket is ticket_of(known, first)


def test_a_colleagues_mail_to_somebody_else_does_not_join_by_a_common_ancestor() -> None:
    known = desk()
    bring(known, mail(references=("newsletter@acme.example",)))
    decision = bring(known, answer(STRANGER, references=("newsletter@acme.example",)))
    assert (decision.outcome, decision.rule) == ("noted", "outgoing")


def test_a_report_on_a_mail_of_ours_joins_from_a_mailer_daemon() -> None:
    known, first = desk(), mail()
    bring(known, first)
    ours = answer(answers=first)
    bring(known, ours)
    report = mail("mailer-daemon@relay.example", auto="report", references=(ours.message_id,))
    decision = bring(known, report)
    assert (decision.outcome, decision.rule) == ("joined", "report")
    assert "mailer-daemon@relay.example" not in known.at[first.id].participants


def test_a_report_on_a_mail_that_is_not_ours_does_not_join() -> None:
    known, first = desk(), mail()
    bring(known, first)
    report = mail("mailer-daemon@relay.example", auto="report", references=(first.message_id,))
    assert bring(known, report).outcome == "opened"


def test_a_report_joins_by_the_tag_of_the_mail_it_concerns() -> None:
    known = desk()
    bring(known, mail())
    report = mail(
        "mailer-daemon@relay.example",
        auto="report",
        subject="Undelivered Mail Returned to Sender",
        tagged=f"Undelivered Mail Returned to Sender\nRe: {sign(RING, 1)} Printer on fire",
    )
    assert bring(known, report).rule == "tag"


def test_the_conversation_decides_and_not_the_mailbox_that_it_went_to() -> None:
    known, first = desk(), mail()
    bring(known, first)
    assert bring(known, mail(answers=first), SALES_MAILBOX).ticket is ticket_of(known, first)


def test_mails_that_all_have_the_same_message_id_are_each_a_ticket() -> None:
    known = desk()
    scans = [mail("scanner@customer.example", message_id="1@scanner") for _ in range(3)]
    assert [each.outcome for each in bring_all(known, *scans)] == ["opened"] * 3


def test_a_mail_without_message_id_and_sender_opens_a_ticket() -> None:
    bare = mail(message_id=None, senders=(), author=None, customer=None)
    assert bring(desk(), bare).outcome == "opened"
