"""From event to rows and back, on a real database."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from mailroom import mime, objects
from mailroom.contracts import (
    Address,
    FieldError,
    MailFailed,
    MailFiled,
    MailRejected,
    Recipient,
)
from mailroom.messaging.failures import ParkEvent
from mailroom_ticketing.service import open_or_join, record_outcome, record_sent
from mailroom_ticketing.tags import sign
from tests.ticketing.bench import Bench, came, departed, record, routed
from tests.ticketing.desk import (
    ACCOUNT,
    COLLEAGUE,
    CUSTOMER,
    RING,
    SALES_MAILBOX,
    STRANGER,
    US,
    answer,
    mail,
)

TICKETS = "SELECT number, ticket_queue, state, subject FROM ticketing.ticket ORDER BY number"
MAILS = "SELECT ticket, rule FROM ticketing.mail WHERE mail = :mail"


async def test_a_mail_opens_ticket_1_and_is_acknowledged_with_its_tag(bench: Bench) -> None:
    first = mail(references=("earlier@mail.example",))
    (send,) = await bench.bring(first)
    assert await bench.rows(TICKETS) == [(1, 1, "new", "Printer on fire")]
    assert send.idempotency_key == f"ack:{first.id}"
    assert send.account == str(ACCOUNT)
    assert [each.address for each in send.to] == [CUSTOMER]
    assert (send.tag, send.auto, send.record) == (sign(RING, 1), "replied", record(1))
    assert send.subject == "Re: Printer on fire"
    assert send.answers is not None
    assert (send.answers.mail, send.answers.message_id) == (first.id, first.message_id)
    assert send.answers.references == first.references
    assert "ticket 1" in (send.text or "")


async def test_the_answer_is_in_the_ticket_queues_language(bench: Bench) -> None:
    (send,) = await bench.bring(mail(), mailbox=SALES_MAILBOX)
    assert "das Ticket 1" in (send.text or "")
    assert 'lang="de"' in (send.html or "")


async def test_a_reply_joins_in_a_later_batch_and_is_not_acknowledged(bench: Bench) -> None:
    first = mail()
    await bench.bring(first)
    reply = mail(answers=first)
    assert await bench.bring(reply) == []
    assert await bench.rows(MAILS, mail=reply.id) == [(1, "reference")]


async def test_a_conversation_in_one_batch_is_one_ticket(bench: Bench) -> None:
    first = mail()
    assert len(await bench.bring(first, mail(answers=first), mail(answers=first))) == 1
    assert len(await bench.rows(TICKETS)) == 1


async def test_one_mail_through_two_accounts_is_one_ticket_with_two_placements(
    bench: Bench,
) -> None:
    twice = mail()
    sends = await bench.bring(twice) + await bench.bring(twice, mailbox=SALES_MAILBOX)
    assert len(sends) == 1
    assert await bench.rows("SELECT outcome, ticket FROM ticketing.placement ORDER BY 1") == [
        ("opened", 1),
        ("placed", 1),
    ]


async def test_events_that_come_again_after_their_ids_were_forgotten_change_nothing(
    bench: Bench,
) -> None:
    first, event = mail(), came(routed(mail()))
    await bench.handle(open_or_join, event, came(routed(first)))
    assert await bench.handle(open_or_join, event) == []
    assert len(await bench.rows(TICKETS)) == 2


async def test_a_reply_before_its_original_is_joined_when_the_original_arrives(
    bench: Bench,
) -> None:
    original = mail(to=(US, COLLEAGUE))
    await bench.bring(mail(COLLEAGUE, answers=original, to=(US, CUSTOMER)))
    assert await bench.bring(original) == []
    assert await bench.rows(MAILS, mail=original.id) == [(1, "referenced")]


async def test_a_colleagues_answer_before_the_question_joins_when_it_arrives(bench: Bench) -> None:
    question = mail()
    early = answer(answers=question)
    await bench.bring(early)
    assert await bench.rows(MAILS, mail=early.id) == [(None, "outgoing")]
    await bench.bring(question)
    assert await bench.rows(MAILS, mail=early.id) == [(1, "reference")]


async def test_a_mail_noted_and_joined_in_one_batch_is_at_its_ticket(bench: Bench) -> None:
    question = mail()
    early = answer(answers=question)
    await bench.bring(early, question)
    assert await bench.rows(MAILS, mail=early.id) == [(1, "reference")]


async def test_a_tag_alone_joins_and_a_forged_one_is_suggested(bench: Bench) -> None:
    await bench.bring(mail())
    tagged = mail(COLLEAGUE, subject=f"AW: AW: {sign(RING, 1)} Printer on fire")
    forged = mail(STRANGER, subject="Re: [#1-aaaaa] Printer on fire")
    await bench.bring(tagged, forged)
    assert await bench.rows(MAILS, mail=tagged.id) == [(1, "tag")]
    assert await bench.rows(MAILS, mail=forged.id) == [(2, "opened")]
    assert await bench.rows("SELECT mail, ticket, claim FROM ticketing.suggestion") == [
        (forged.id, 1, "number wrongly signed")
    ]


async def test_a_stranger_with_a_guessed_message_id_stays_outside(bench: Bench) -> None:
    first = mail()
    await bench.bring(first)
    guessed = mail(STRANGER, answers=first)
    await bench.bring(guessed)
    assert await bench.rows(MAILS, mail=guessed.id) == [(2, "opened")]
    assert await bench.rows("SELECT mail, ticket, claim FROM ticketing.suggestion") == [
        (guessed.id, 1, "stranger's reference")
    ]


async def test_backfill_and_spam_open_nothing_and_are_noted(bench: Bench) -> None:
    old, junk = mail(backfill=True), mail(spam=True)
    assert await bench.bring(old, junk) == []
    assert await bench.rows(TICKETS) == []
    assert sorted(await bench.rows("SELECT outcome, rule FROM ticketing.placement")) == [
        ("noted", "backfill"),
        ("noted", "spam"),
    ]


@pytest.mark.parametrize("before", [{"spam": True}, {"direction": "out"}, {"backfill": True}])
async def test_a_placement_that_was_noted_and_comes_again_afresh_opens_a_ticket(
    bench: Bench, before: dict[str, Any]
) -> None:
    """Out of the junk folder; or a mail to ourselves, seen in Sent before it was received."""
    fresh = mail(auto="bulk")
    event = routed(fresh)
    noted = event.model_copy(update=before)
    await bench.handle(open_or_join, came(noted))
    await bench.handle(open_or_join, came(event), came(noted))
    await bench.handle(open_or_join, came(noted))
    assert await bench.rows("SELECT outcome, withheld FROM ticketing.placement") == [
        ("opened", "automatic mail")
    ]
    assert await bench.rows(MAILS, mail=fresh.id) == [(1, "opened")]


async def test_a_mailbox_that_feeds_no_ticket_queue_leaves_an_outcome(bench: Bench) -> None:
    assert await bench.bring(mail(), mailbox=uuid4()) == []
    assert await bench.rows("SELECT outcome, rule FROM ticketing.placement") == [
        ("passed over", "feeds no ticket queue")
    ]


async def test_answers_within_the_hour_are_counted_over_batches(bench: Bench) -> None:
    assert len(await bench.bring(mail())) == 1
    assert await bench.bring(mail(CUSTOMER.upper())) == []
    assert len(await bench.bring(mail(), mailbox=SALES_MAILBOX)) == 1
    assert await bench.rows(
        "SELECT withheld FROM ticketing.placement WHERE withheld IS NOT NULL"
    ) == [("answered within the hour",)]


async def test_our_accounts_address_is_not_acknowledged(bench: Bench) -> None:
    assert await bench.bring(mail(US)) == []


async def test_two_auto_responders_do_not_make_a_storm(bench: Bench) -> None:
    """Both answer whatever they get: one says that it is automatic, the other keeps silent."""
    honest, sly = mail("honest@machine.example"), mail("sly@machine.example")
    sends, rounds = await bench.bring(honest, sly), 0
    while sends and rounds < 20:
        rounds += 1
        answers = []
        for told in await bench.sent(*sends):
            fresh = f"I am away ({rounds})"  # a new conversation each time: no headers, no tag
            automatic = "replied" if told.accepted[0].address == honest.senders[0] else "none"
            answers.append(mail(told.accepted[0].address, subject=fresh, auto=automatic))
        sends = await bench.bring(*answers)
    assert rounds == 1


async def test_a_reply_to_our_answer_joins_by_its_message_id_alone(bench: Bench) -> None:
    (told,) = await bench.sent(*await bench.bring(mail()))
    bare = mail(references=(told.message_id,), subject="no tag left")
    assert await bench.bring(bare) == []
    assert await bench.rows(MAILS, mail=bare.id) == [(1, "reference")]


async def test_a_reply_to_a_message_id_that_a_relay_made_joins(bench: Bench) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send).model_copy(update={"aliases": ("made-by@relay.example",)})
    await bench.handle(record_sent, came(told, "sender"))
    bare = mail(references=("made-by@relay.example",), subject="no tag left")
    assert await bench.bring(bare) == []


@pytest.mark.parametrize("copy_first", [True, False])
@pytest.mark.parametrize("copy_matches", [True, False])
async def test_our_mail_is_at_its_ticket_whether_its_copy_or_the_senders_word_comes_first(
    bench: Bench, *, copy_first: bool, copy_matches: bool
) -> None:
    first = mail()
    (send,) = await bench.bring(first)
    told = departed(send).model_copy(update={"aliases": ("made-by@relay.example",)})
    copy = answer(**({"answers": first} if copy_matches else {"subject": "mangled"}))
    copy = replace(copy, id=told.mail, message_id=told.message_id, auto="replied")
    if copy_first:
        await bench.bring(copy)
    await bench.handle(record_sent, came(told, "sender"))
    await bench.bring(copy)
    at = await bench.rows("SELECT ticket FROM ticketing.mail WHERE mail = :mail", mail=copy.id)
    assert at == [(1,)]
    for known_by in (told.message_id, *told.aliases):
        bare = mail(references=(known_by,), subject="no tag left")
        assert await bench.bring(bare) == []
        assert await bench.rows(MAILS, mail=bare.id) == [(1, "reference")]


async def test_a_colleagues_mail_that_answers_one_of_ours_before_it_is_known_joins_afterwards(
    bench: Bench,
) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send)
    early = answer(references=(told.message_id,), subject="no tag left")
    await bench.bring(early)
    await bench.handle(record_sent, came(told, "sender"))
    assert await bench.rows(MAILS, mail=early.id) == [(1, "reference")]


async def test_an_acknowledgement_that_left_keeps_the_ticket_new_and_a_reply_makes_it_wait(
    bench: Bench,
) -> None:
    (send,) = await bench.bring(mail())
    await bench.sent(send)
    assert await bench.rows("SELECT state FROM ticketing.ticket") == [("new",)]
    written = send.model_copy(update={"auto": "none", "idempotency_key": "reply:1"})
    await bench.sent(written)
    assert await bench.rows("SELECT state FROM ticketing.ticket") == [("waiting",)]


async def test_whoever_our_reply_went_to_in_copy_takes_part(bench: Bench) -> None:
    (send,) = await bench.bring(mail())
    copied = (Address(address="help@supplier.example"),)
    written = send.model_copy(update={"cc": copied, "idempotency_key": "reply:1", "auto": "none"})
    (told,) = await bench.sent(written)
    joined = mail("help@supplier.example", references=(told.message_id,), subject="sure")
    await bench.bring(joined)
    assert await bench.rows(MAILS, mail=joined.id) == [(1, "reference")]


async def test_what_another_publisher_sent_in_a_tickets_name_does_not_enter_it(
    bench: Bench,
) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send, publisher="erp")
    await bench.handle(record_sent, came(told, "sender"))
    filed = MailFiled(
        publisher="erp",
        idempotency_key=send.idempotency_key,
        mail=told.mail,
        account=ACCOUNT,
        message_id=told.message_id,
        record=record(1),
        folder="Sent",
    )
    await bench.handle(record_outcome, came(filed, "sender"))
    assert await bench.rows("SELECT * FROM ticketing.outcome") == []
    assert len(await bench.rows("SELECT * FROM ticketing.mail")) == 1


@pytest.mark.parametrize("number", ["7", "seven", "99999999999999999999"])
async def test_a_mail_sent_for_a_ticket_that_is_not_there_is_parked(
    bench: Bench, number: str
) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send).model_copy(update={"record": record(1).model_copy(update={"id": number})})
    with pytest.raises(ParkEvent, match=number):
        await bench.handle(record_sent, came(told, "sender"))


async def test_every_outcome_is_kept_with_its_words(bench: Bench) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send)
    usual = {"publisher": "ticketing", "idempotency_key": send.idempotency_key}
    of_mail = usual | {"mail": told.mail, "account": ACCOUNT, "message_id": told.message_id}
    refused = Recipient(address=CUSTOMER, code=550, reply="5.1.1 unknown")
    remedy = FieldError(field="to.0.address", value="x", remedy="give an address")
    await bench.handle(
        record_outcome,
        came(MailFiled(**of_mail, record=record(1), folder="Sent"), "sender"),
        came(MailFailed(**of_mail, record=record(1), reason="refused", refused=(refused,))),
        came(MailRejected(**usual, event_id=None, errors=(remedy,)), "sender"),
    )
    await bench.handle(record_sent, came(told, "sender"))
    assert dict(await bench.rows("SELECT what, words FROM ticketing.outcome")) == {
        "sent": f"to {CUSTOMER} (250 2.0.0 Ok: queued)",
        "filed": "copy in Sent",
        "failed": f"the server refused it: {CUSTOMER} (550 5.1.1 unknown)",
        "rejected": "to.0.address 'x': give an address",
    }


def bounce(subject: str, message_id: str) -> bytes:
    """As RFC 3464 has it."""
    return f"""\
From: MAILER-DAEMON@relay.example
To: {US}
Subject: Undelivered Mail Returned to Sender
Message-ID: <{uuid4()}@relay.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

It did not work.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; {CUSTOMER}
Action: failed
Status: 5.1.1

--b
Content-Type: message/rfc822

From: {US}
Subject: {subject}
Message-ID: <{message_id}>

Hello
--b--
""".encode()


@pytest.mark.parametrize("told_before", [True, False])
async def test_a_report_on_our_mail_joins_its_ticket_and_is_not_acknowledged(
    bench: Bench, *, told_before: bool
) -> None:
    """By the Message-ID inside it; by the tag inside it, when it overtook `mail.sent`."""
    (send,) = await bench.bring(mail())
    told = departed(send)
    if told_before:
        await bench.handle(record_sent, came(told, "sender"))
    read = mime.read(bounce(told.subject, told.message_id))
    parsed = await objects.put(bench.resources.objects, mime.to_json(read))
    report = mail("mailer-daemon@relay.example", auto=read.auto, subject=read.subject)
    event = routed(report).model_copy(update={"parsed": parsed, "return_path": ""})
    assert await bench.handle(open_or_join, came(event)) == []
    rule = "report" if told_before else "tag"
    assert await bench.rows(MAILS, mail=report.id) == [(1, rule)]


async def test_a_report_that_concerns_nothing_of_ours_opens_a_ticket_without_an_answer(
    bench: Bench,
) -> None:
    read = mime.read(bounce("Buy now", "forged@evil.example"))
    parsed = await objects.put(bench.resources.objects, mime.to_json(read))
    report = mail("mailer-daemon@relay.example", auto="report")
    event = routed(report).model_copy(update={"parsed": parsed})
    assert await bench.handle(open_or_join, came(event)) == []
    assert await bench.rows("SELECT withheld FROM ticketing.placement") == [("automatic mail",)]


async def test_a_reply_that_overtook_what_the_sender_tells_is_suggested_afterwards(
    bench: Bench,
) -> None:
    (send,) = await bench.bring(mail())
    told = departed(send)
    overtaking = mail(references=(told.message_id,), subject="no tag left")
    await bench.bring(overtaking)
    await bench.handle(record_sent, came(told, "sender"))
    assert await bench.rows("SELECT mail, ticket, claim FROM ticketing.suggestion") == [
        (overtaking.id, 1, "answered late")
    ]


async def test_hostile_sizes_are_stored_or_cut_and_never_refused(bench: Bench) -> None:
    ids = [f"{number}-{'é' * 900}@mail.example" for number in range(300)]
    people = [f"{number}@{'x' * 230}.example" for number in range(3000)]
    hostile = mail(
        message_id="é" * 998,
        references=tuple(ids),
        to=tuple(people),
        subject="[#1]" * 2000 + "x" * 60_000,
        customer=Address(name="n" * 5000, address="y" * 5000 + "@mail.example"),
    )
    assert await bench.bring(hostile) == []
    assert await bench.bring(mail(references=(ids[-1],))) == []
    ((subject,),) = await bench.rows("SELECT subject FROM ticketing.ticket")
    assert subject == "x" * 1000


async def test_mail_without_message_id_sender_or_subject_opens_a_ticket(bench: Bench) -> None:
    bare = mail(message_id=None, author=None, customer=None, subject="", to=())
    assert await bench.bring(bare) == []
    assert await bench.rows(TICKETS) == [(1, 1, "new", "")]
