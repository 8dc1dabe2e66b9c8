"""What becomes of a mail, and of the ticket's state."""

from mailroom_ticketing.tags import sign
from tests.ticketing.desk import (
    COLLEAGUE,
    CUSTOMER,
    NOON,
    PRIVATE_DESK,
    RING,
    SALES,
    SALES_MAILBOX,
    US,
    answer,
    bring,
    bring_all,
    desk,
    later,
    mail,
    ticket_of,
)


def test_a_mail_opens_a_new_ticket_in_the_queue_that_its_mailbox_feeds() -> None:
    known = desk()
    ticket = bring(known, mail(subject="Offer?"), SALES_MAILBOX).ticket
    assert ticket is not None
    assert (ticket.queue, ticket.state, ticket.subject) == (SALES, "new", "Offer?")
    assert ticket.customer is not None
    assert ticket.customer.address == CUSTOMER


def test_a_mailbox_that_feeds_no_ticket_queue_is_passed_over() -> None:
    known = desk()
    decision = bring(known, mail(), PRIVATE_DESK)
    assert (decision.outcome, known.tickets) == ("passed over", {})


def test_one_mail_through_two_accounts_is_one_ticket() -> None:
    known, twice = desk(), mail()
    first = bring(known, twice)
    second = bring(known, twice, SALES_MAILBOX)
    assert (second.outcome, second.ticket) == ("placed", first.ticket)
    assert len(known.tickets) == 1


def test_a_mail_passed_over_in_one_mailbox_opens_a_ticket_through_the_other() -> None:
    known, twice = desk(), mail()
    bring(known, twice, PRIVATE_DESK)
    assert bring(known, twice).outcome == "opened"


def test_backfilled_mail_opens_no_ticket_and_joins_silently() -> None:
    known, first = desk(), mail()
    assert bring(known, mail(backfill=True)).rule == "backfill"
    ticket = bring(known, first).ticket
    assert ticket is not None
    ticket.state = "closed"
    joined = bring(known, mail(answers=first, backfill=True), at=later(hours=1))
    assert joined.outcome == "joined"
    assert (ticket.state, ticket.updated_at) == ("closed", NOON)


def test_backfilled_history_joins_the_ticket_that_its_conversation_opens_later() -> None:
    known, history = desk(), mail(backfill=True)
    bring(known, history)
    opened, pulled = bring_all(known, mail(answers=history))
    assert opened.outcome == "opened"
    assert (pulled.mail, pulled.outcome, pulled.ticket) == (history, "joined", opened.ticket)


def test_a_mail_brought_as_backfill_and_then_afresh_opens_a_ticket() -> None:
    known, twice = desk(), mail(backfill=True)
    bring(known, twice)
    afresh = mail(id=twice.id, message_id=twice.message_id)
    assert bring(known, afresh).outcome == "opened"


def test_spam_opens_no_ticket_and_is_noted() -> None:
    known = desk()
    decision = bring(known, mail(spam=True))
    assert (decision.outcome, decision.rule, known.tickets) == ("noted", "spam", {})


def test_what_spam_references_leads_nobody_anywhere() -> None:
    known, spam = desk(), mail(spam=True)
    bring(known, spam)
    assert len(bring_all(known, mail(answers=spam))) == 1


def test_spam_that_a_person_took_out_of_the_junk_folder_opens_a_ticket() -> None:
    known, spam = desk(), mail(spam=True)
    bring(known, spam)
    assert bring(known, mail(id=spam.id, message_id=spam.message_id)).outcome == "opened"


def test_a_customers_reply_that_looked_like_spam_joins() -> None:
    known, first = desk(), mail()
    bring(known, first)
    assert bring(known, mail(answers=first, spam=True)).outcome == "joined"


def test_outgoing_mail_that_matches_nothing_opens_no_ticket() -> None:
    known = desk()
    decision = bring(known, answer())
    assert (decision.outcome, decision.rule, known.tickets) == ("noted", "outgoing", {})


def test_a_colleagues_answer_that_came_before_the_question_joins_when_it_comes() -> None:
    known, question = desk(), mail()
    early = answer(answers=question)
    bring(known, early)
    opened, pulled = bring_all(known, question)
    assert opened.outcome == "opened"
    assert (pulled.mail, pulled.ticket, pulled.placement) == (early, opened.ticket, None)


def test_a_chain_of_mails_that_came_backwards_ends_in_one_ticket() -> None:
    known, question = desk(), mail(to=(US, COLLEAGUE))
    ours = answer(answers=question)
    follow_up = mail(COLLEAGUE, answers=ours, to=(US, CUSTOMER))
    ours_again = answer(COLLEAGUE, answers=follow_up)
    bring_all(known, ours_again, follow_up, ours, question)
    assert len(known.tickets) == 1
    chain = (question, ours, follow_up, ours_again)
    assert {id(ticket_of(known, each)) for each in chain} == {id(known.tickets[1])}


def test_a_customers_mail_opens_a_closed_or_waiting_ticket_again() -> None:
    for state in ("closed", "waiting", "open"):
        known, first = desk(), mail()
        ticket = bring(known, first).ticket
        assert ticket is not None
        ticket.state = state
        bring(known, mail(answers=first))
        assert ticket.state == "open"


def test_a_second_mail_before_any_answer_leaves_the_ticket_new() -> None:
    known, first = desk(), mail()
    ticket = bring(known, first).ticket
    bring(known, mail(answers=first))
    assert ticket is not None
    assert ticket.state == "new"


def test_what_machines_write_does_not_open_a_closed_ticket() -> None:
    known, first = desk(), mail()
    ticket = bring(known, first).ticket
    assert ticket is not None
    ticket.state = "closed"
    bring(known, mail(answers=first, auto="replied"))
    assert ticket.state == "closed"


def test_our_answer_makes_the_ticket_wait_unless_it_is_closed() -> None:
    for before, after in (("new", "waiting"), ("open", "waiting"), ("closed", "closed")):
        known, first = desk(), mail()
        ticket = bring(known, first).ticket
        assert ticket is not None
        ticket.state = before  # type: ignore[assignment]
        bring(known, answer(answers=first, date=later(minutes=5), received_at=later(minutes=6)))
        assert ticket.state == after


def test_an_answer_older_than_the_customers_newest_mail_does_not_make_the_ticket_wait() -> None:
    known, first = desk(), mail()
    ticket = bring(known, first).ticket
    newest = mail(answers=first, date=later(hours=2), received_at=later(hours=2))
    bring(known, newest)
    bring(known, answer(answers=first, date=later(hours=1), received_at=later(hours=3)))
    assert ticket is not None
    assert ticket.state == "new"


def test_an_acknowledgement_seen_in_sent_does_not_make_the_ticket_wait() -> None:
    known, first = desk(), mail()
    ticket = bring(known, first).ticket
    bring(known, answer(answers=first, auto="replied", date=later(minutes=1)))
    assert ticket is not None
    assert ticket.state == "new"


def test_a_ticket_does_not_take_over_a_forged_number_from_its_subject() -> None:
    known = desk()
    bring(known, mail())
    ticket = bring(known, mail(subject="Re: [#1-aaaaa] Printer")).ticket
    assert ticket is not None
    assert ticket.subject == "Re: Printer"


def test_answers_go_to_reply_to_and_who_is_named_there_takes_part() -> None:
    known = desk()
    form = mail("form@acme-web.example", customer=mail(CUSTOMER).author)
    bring(known, form)
    assert bring(known, mail(CUSTOMER, answers=form)).outcome == "joined"


def test_each_ticket_of_a_batch_is_found_by_its_own_tag_afterwards() -> None:
    known = desk()
    bring_all(known, mail(), mail())
    assert bring(known, mail(subject=sign(RING, 2))).ticket is known.tickets[2]
