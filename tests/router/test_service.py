"""The handlers on a real database, object store and reading process, a transaction each."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, objects
from mailroom.contracts import MailFetch, MailReceived, MailRouted, MailSent
from mailroom.messaging.envelope import Received
from mailroom.service import Resources, TraceKeys
from mailroom_router import store
from mailroom_router.mails import TRIES_FOR_MAIL_SENT, placement_id
from mailroom_router.routing import Account
from mailroom_router.service import BytesLost, OvertookMailSent, register, route
from mailroom_router.settings import RouterSettings
from mailroom_router.store import AccountUnknown
from mailroom_router.trace import trace
from tests.router.samples import (
    ALICE_ACCOUNT,
    ALICES,
    INFO,
    INFO_ACCOUNT,
    SALES,
    SERVICE,
    SERVICE_ACCOUNT,
    a_rule,
)

Router = Resources[RouterSettings]

QUESTION = b"""\
Return-Path: <customer@shop.example>
Delivered-To: service@firm.example
From: A Customer <customer@shop.example>
To: service@firm.example
Cc: alice@firm.example
Subject: A question
Date: Mon, 2 Mar 2026 09:00:00 +0100
Message-ID: <question@shop.example>

How much is it?
"""
FOR_ALICE = QUESTION.replace(b"Delivered-To: service@", b"Delivered-To: alice@")


async def received(
    resources: Router, raw: bytes, account: Account = SERVICE_ACCOUNT, **fetched: Any
) -> Received[MailReceived]:
    """An event of the fetcher, whose bytes lie in the object store."""
    usual: dict[str, Any] = {
        "arrival": uuid4(),
        "account": account.id,
        "folder": "INBOX",
        "role": "inbox",
        "uidvalidity": 1,
        "uid": 1,
        "internal_date": clock.now(),
        "raw": await objects.put(resources.objects, raw),
        "backfill": False,
        "received_at": clock.now(),
    }
    event = MailReceived(**(usual | fetched))
    return Received(str(uuid4()), event, "fetcher", f"correlation-{uuid4()}", clock.now())


async def sent(resources: Router, raw: bytes, mail: UUID) -> Received[MailSent]:
    event = MailSent(
        publisher="ticketing",
        idempotency_key=str(mail),
        mail=mail,
        account=SERVICE_ACCOUNT.id,
        message_id="answer@firm.example",
        accepted=(),
        subject="Re: A question",
        smtp_reply="250 ok",
        raw=await objects.put(resources.objects, raw),
        sent_at=clock.now(),
    )
    return Received(str(uuid4()), event, "sender", "correlation-answer", clock.now())


async def routed(resources: Router, *events: Received[MailReceived]) -> list[MailRouted]:
    """What one batch tells, committed."""
    async with resources.engine.begin() as tx:
        return told(await route(tx, events, resources))


def told(outgoing: Sequence[Any]) -> list[MailRouted]:
    events = [one.event for one in outgoing]
    assert all(isinstance(event, MailRouted) for event in events)
    return events


async def test_a_mail_is_read_placed_and_told_with_its_reason(resources: Router) -> None:
    event = await received(resources, QUESTION)
    async with resources.engine.begin() as tx:
        (outgoing,) = await route(tx, [event], resources)
    assert outgoing.correlation_id == event.correlation_id
    (mail,) = told([outgoing])
    assert (mail.mailbox, mail.mailbox_kind, mail.direction) == (SERVICE.id, "central", "in")
    assert mail.rule == "known address"
    assert mail.reason == ('delivered to "service@firm.example", an address of mailbox "Service"')
    assert mail.placement == placement_id(mail.mail, SERVICE.id, SERVICE_ACCOUNT.id)
    assert (mail.subject, mail.message_id) == ("A question", "question@shop.example")
    assert mail.raw == event.event.raw
    assert mail.parsed is not None
    parsed = json.loads(await objects.get(resources.objects, mail.parsed.sha256))
    assert parsed["text"].strip() == "How much is it?"


async def test_one_mail_through_two_accounts_in_one_batch_is_one_mail(resources: Router) -> None:
    events = [
        await received(resources, QUESTION),
        await received(resources, FOR_ALICE, ALICE_ACCOUNT),
    ]
    one, other = await routed(resources, *events)
    assert one.mail == other.mail
    assert one.placement != other.placement
    assert (one.mailbox, other.mailbox) == (SERVICE.id, ALICES.id)
    assert one.raw != other.raw


async def test_one_mail_through_two_accounts_in_two_batches_is_one_mail(resources: Router) -> None:
    (one,) = await routed(resources, await received(resources, QUESTION))
    (other,) = await routed(resources, await received(resources, FOR_ALICE, ALICE_ACCOUNT))
    assert one.mail == other.mail


async def test_one_mail_in_two_replicas_at_once_is_one_mail(resources: Router) -> None:
    events = [
        await received(resources, QUESTION),
        await received(resources, FOR_ALICE, ALICE_ACCOUNT),
    ]
    (one,), (other,) = await asyncio.gather(*(routed(resources, event) for event in events))
    assert one.mail == other.mail


async def test_the_same_mail_in_another_folder_of_its_account_is_not_told_again(
    resources: Router,
) -> None:
    assert len(await routed(resources, await received(resources, QUESTION))) == 1
    moved = await received(resources, QUESTION, folder="Archive", role="archive", uid=7)
    assert await routed(resources, moved) == []


async def test_mail_taken_out_of_junk_is_told_again_as_no_spam(resources: Router) -> None:
    (junk,) = await routed(
        resources, await received(resources, QUESTION, folder="Junk", role="junk")
    )
    (taken_out,) = await routed(resources, await received(resources, QUESTION, uid=2))
    assert (junk.spam, taken_out.spam) == (True, False)
    assert junk.placement == taken_out.placement
    assert await routed(resources, await received(resources, QUESTION, uid=3)) == []


async def test_mail_to_ourselves_is_told_as_received_also_after_its_copy_in_sent(
    resources: Router,
) -> None:
    to_self = QUESTION.replace(b"customer@shop", b"service@firm")
    (out,) = await routed(resources, await received(resources, to_self, folder="Sent", role="sent"))
    (back,) = await routed(resources, await received(resources, to_self, uid=2))
    assert (out.direction, back.direction) == ("out", "in")
    assert out.mail == back.mail
    again = await received(resources, to_self, folder="Sent", role="sent", uid=3)
    assert await routed(resources, again) == []


async def test_equal_message_ids_with_other_bytes_are_two_mails(resources: Router) -> None:
    forged = QUESTION.replace(b"How much is it?", b"Send the money elsewhere.")
    one, other = await routed(
        resources, await received(resources, QUESTION), await received(resources, forged)
    )
    assert one.message_id == other.message_id
    assert one.mail != other.mail


async def test_mails_without_message_id_are_known_by_their_content(resources: Router) -> None:
    nameless = QUESTION.replace(b"Message-ID: <question@shop.example>\n", b"")
    traced = b"Received: from a by b; Mon, 2 Mar 2026 09:00:01 +0100\n" + nameless
    other = nameless.replace(b"How much", b"How many")
    one, again, two = await routed(
        resources,
        await received(resources, nameless),
        await received(resources, traced, ALICE_ACCOUNT),
        await received(resources, other),
    )
    assert one.message_id is None
    assert one.mail == again.mail
    assert one.mail != two.mail


ANSWER = b"X-Mailroom-Mail: %s\n" + QUESTION.replace(b"customer@shop", b"service@firm").replace(
    b"To: service@firm", b"To: customer@shop"
).replace(b"question@shop", b"answer@firm")


async def test_our_own_mail_is_known_in_another_account_after_mail_sent(resources: Router) -> None:
    ours = uuid4()
    raw = ANSWER % str(ours).encode()
    async with resources.engine.begin() as tx:
        assert await register(tx, [await sent(resources, raw, ours)], resources) == ()
    (copy,) = await routed(resources, await received(resources, raw, ALICE_ACCOUNT))
    assert (copy.mail, copy.direction) == (ours, "in")


async def test_the_copy_in_sent_is_known_by_its_header_though_a_relay_changed_it(
    resources: Router,
) -> None:
    ours = uuid4()
    raw = (ANSWER % str(ours).encode()).replace(b"answer@firm.example", b"rewritten@relay.example")
    (copy,) = await routed(resources, await received(resources, raw, folder="Sent", role="sent"))
    assert (copy.mail, copy.direction) == (ours, "out")


async def test_a_forged_header_of_ours_in_an_inbox_is_ignored(resources: Router) -> None:
    known = (await routed(resources, await received(resources, QUESTION)))[0].mail
    forged = b"X-Mailroom-Mail: %s\n" % str(known).encode() + QUESTION.replace(b"much", b"many")
    for role in ("inbox", "junk", "archive", "other"):
        (mail,) = await routed(
            resources, await received(resources, forged, INFO_ACCOUNT, role=role)
        )
        assert mail.mail != known
        forged += b"."


async def test_a_copy_that_overtakes_mail_sent_waits_and_then_joins_our_mail(
    resources: Router,
) -> None:
    ours = uuid4()
    raw = ANSWER % str(ours).encode()
    copy = await received(resources, raw, ALICE_ACCOUNT)
    with pytest.raises(OvertookMailSent):
        await routed(resources, copy)
    async with resources.engine.begin() as tx:
        await register(tx, [await sent(resources, raw, ours)], resources)
    (joined,) = await routed(resources, replace(copy, tries=1))
    assert joined.mail == ours


async def test_a_mail_that_only_says_it_is_ours_is_routed_in_the_end(resources: Router) -> None:
    claim = uuid4()
    copy = await received(resources, ANSWER % str(claim).encode(), ALICE_ACCOUNT)
    (mail,) = await routed(resources, replace(copy, tries=TRIES_FOR_MAIL_SENT))
    assert mail.mail != claim


async def test_a_rule_written_a_moment_ago_decides(resources: Router) -> None:
    async with resources.engine.begin() as tx:
        rule = a_rule("Shops", SALES, from_pattern="*@shop.example", header_name="To")
        rule = replace(rule, header_pattern="service@*")
        await store.write_rule(tx, rule, clock.now())
    (mail,) = await routed(resources, await received(resources, QUESTION))
    assert (mail.mailbox, mail.rule) == (SALES.id, "Shops")
    assert 'To "service@firm.example" fits "service@*"' in mail.reason


async def test_mail_to_an_unknown_address_goes_to_its_accounts_own_mailbox(
    resources: Router,
) -> None:
    raw = QUESTION.replace(b"service@firm", b"nobody@firm").replace(b"alice@firm", b"no@firm")
    (mail,) = await routed(resources, await received(resources, raw, INFO_ACCOUNT))
    assert (mail.mailbox, mail.rule) == (INFO.id, "own mailbox")


async def test_backfill_is_told_as_backfill(resources: Router) -> None:
    (mail,) = await routed(resources, await received(resources, QUESTION, backfill=True))
    assert mail.backfill


async def test_mail_of_a_removed_account_is_parked_with_the_remedy(resources: Router) -> None:
    gone = Account(uuid4(), "gone", "gone@firm.example", SERVICE.id)
    with pytest.raises(AccountUnknown, match="drop it; the account added anew brings its mails"):
        await routed(resources, await received(resources, QUESTION, gone))


async def test_missing_bytes_are_named_and_nothing_is_stored(resources: Router) -> None:
    event = await received(resources, QUESTION)
    path = resources.objects.root / event.event.raw.sha256[:2] / event.event.raw.sha256
    path.unlink()
    with pytest.raises(BytesLost, match=f"{event.event.raw.sha256} is missing"):
        await routed(resources, event)
    await objects.put(resources.objects, QUESTION)
    path.write_bytes(b"damaged")
    with pytest.raises(BytesLost, match="another hash") as lost:
        await routed(resources, event)
    (asked,) = lost.value.asks
    assert isinstance(asked.event, MailFetch)
    assert (asked.event.raw, asked.correlation_id) == (event.event.raw, event.correlation_id)


async def test_our_own_mail_whose_bytes_are_damaged_is_asked_for_again_too(
    resources: Router,
) -> None:
    event = await sent(resources, QUESTION, uuid4())
    path = resources.objects.root / event.event.raw.sha256[:2] / event.event.raw.sha256
    path.write_bytes(b"")
    async with resources.engine.connect() as tx:
        with pytest.raises(BytesLost, match="0 bytes have another hash"):
            await register(tx, [event], resources)


async def steps(tx: AsyncConnection, **keys: Any) -> tuple[TraceKeys, list[tuple[str, str]]]:
    """Ask with what is known until nothing more is found, as `mailroom trace` does."""
    known, now = TraceKeys(), TraceKeys(**{name: frozenset(found) for name, found in keys.items()})
    while known != now:
        known = now
        found, told_steps = await trace(tx, known)
        now = TraceKeys(
            known.message_ids | found.message_ids,
            known.mails | found.mails,
            known.correlation_ids | found.correlation_ids,
        )
    return now, [(step.what, step.why) for step in sorted(told_steps, key=lambda step: step.at)]


async def test_a_trace_finds_each_arrival_by_any_key_and_says_why(resources: Router) -> None:
    one = await received(resources, QUESTION)
    other = await received(resources, FOR_ALICE, ALICE_ACCOUNT)
    (mail,) = await routed(resources, one)
    await routed(resources, other)
    moved = await received(resources, QUESTION, folder="Archive", role="archive")
    await routed(resources, moved)
    by_message_id = {"message_ids": ["question@shop.example"]}
    by_mail = {"mails": [mail.mail]}
    by_correlation = {"correlation_ids": [one.correlation_id]}
    async with resources.engine.connect() as tx:
        answers = [await steps(tx, **keys) for keys in (by_message_id, by_mail, by_correlation)]
        assert answers[0] == answers[1] == answers[2]
        assert (await steps(tx, mails=[uuid4()]))[1] == []
    keys, found = answers[0]
    assert keys.correlation_ids == {event.correlation_id for event in (one, other, moved)}
    known = "Message-ID, From, Date and text are those of a mail that is known"
    assert found == [
        ("routed", 'delivered to "service@firm.example", an address of mailbox "Service"'),
        ("known again", known),
        ("routed", 'delivered to "alice@firm.example", an address of mailbox "Alice"'),
        ("known again", f"{known}; it has its place in this mailbox already"),
    ]


async def test_a_trace_shows_that_mail_sent_made_a_mail_ours(resources: Router) -> None:
    ours = uuid4()
    raw = ANSWER % str(ours).encode()
    async with resources.engine.begin() as tx:
        await register(tx, [await sent(resources, raw, ours)], resources)
    await routed(resources, await received(resources, raw, folder="Sent", role="sent"))
    async with resources.engine.connect() as tx:
        keys, found = await steps(tx, message_ids=["answer@firm.example"])
    assert keys.mails == {ours}
    assert [what for what, _ in found] == ["registered", "known again", "routed"]


async def test_a_decision_is_stored_with_rule_and_reason(resources: Router) -> None:
    (mail,) = await routed(resources, await received(resources, QUESTION))
    async with resources.engine.connect() as tx:
        row = (await tx.execute(select(store.arrival))).one()
    assert (row.mail, row.rule, row.reason, row.told) == (mail.mail, mail.rule, mail.reason, True)
    assert clock.now() - row.routed_at < timedelta(minutes=1)
