"""What comes is accepted once, or rejected with each wrong field, and kept where people find it."""

import asyncio
import base64
import json
import threading
from datetime import timedelta
from typing import Any

from mailroom import mime, objects
from mailroom.contracts import MailCancel
from mailroom.mime import read
from mailroom.service import Refused
from mailroom_sender import service
from tests.sender.office import ERP, Office, received, request, to

PDF = b"%PDF-1.7 \x00\xff" * 1000


async def test_a_mail_has_all_that_its_request_asked_for(office: Office) -> None:
    pdf = await office.upload(PDF)
    logo = base64.b64encode(b"\x89PNG").decode()
    asked: dict[str, Any] = {
        "to": [{"name": "Jürgen Groß, Einkauf", "address": "juergen@müller.example"}],
        "cc": to("anna@example.com"),
        "bcc": to("secret@example.com"),
        "reply_to": to("orders@example.com"),
        "subject": "Re: Ihre Bestellung über 5 €",
        "text": "Grüße\n.\nEnde",
        "html": '<p>Grüße <img src="cid:logo"></p>',
        "attachments": [
            {"filename": "Rechnung Ä.pdf", "type": "application/pdf", "object": pdf},
            {"filename": "logo.png", "type": "image/png", "inline": logo, "content_id": "logo"},
        ],
        "answers": {"message_id": "q@customer.example", "references": ["p@customer.example"]},
        "tag": "[#1042-k7f3q]",
        "auto": "replied",
    }
    key = await office.ask(**asked)
    row = await office.row(key)
    raw = await objects.get(office.resources.objects, row["raw_sha256"])
    mail = read(raw)
    assert mail.from_ == (mime.Address("Büro Müller", office.address),)
    assert mail.to == (mime.Address("Jürgen Groß, Einkauf", "juergen@xn--mller-kva.example"),)
    assert [one.address for one in (*mail.cc, *mail.reply_to)] == [
        "anna@example.com",
        "orders@example.com",
    ]
    assert b"secret@example.com" not in raw
    assert mail.subject == row["subject"] == "Re: [#1042-k7f3q] Ihre Bestellung über 5 €"
    assert b"Subject: Re: [#1042-k7f3q]" in raw
    assert (mail.text.strip(), mail.html.strip()) == ("Grüße\n.\nEnde", asked["html"])
    assert [(one.filename, one.type, one.size, one.content_id) for one in mail.attachments] == [
        ("logo.png", "image/png", 4, "logo"),
        ("Rechnung Ä.pdf", "application/pdf", len(PDF), None),
    ]
    assert mail.in_reply_to == ("q@customer.example",)
    assert mail.references == ("p@customer.example", "q@customer.example")
    headers = {name.lower(): value for name, value in mail.headers}
    assert headers["auto-submitted"] == "auto-replied"
    assert headers["x-mailroom-mail"] == str(row["mail"])
    assert mail.message_id == f"{row['mail']}@example.com"
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


async def test_requests_are_accepted_while_names_cannot_be_looked_up(office: Office) -> None:
    """getaddrinfo takes asyncio's own threads, and a silent name server all of them."""
    answered, loop = threading.Event(), asyncio.get_running_loop()
    lookups = [loop.run_in_executor(None, answered.wait) for _ in range(64)]
    try:
        async with asyncio.timeout(10):
            await office.ask(to=to("a@example.com"))
    finally:
        answered.set()
        await asyncio.gather(*lookups)
    assert await office.count_requests() == 1


async def test_nobody_attaches_what_was_not_uploaded_for_it(office: Office) -> None:
    """`mail.sent` tells the hash of each mail, also to who may read none."""
    secret = await office.row(await office.ask("ticketing", to=to("a@example.com")))
    others = await office.upload(PDF, "shop")
    for stolen in (secret["raw_sha256"], others, "cd" * 32):
        file = {"filename": "x", "type": "message/rfc822", "object": stolen}
        await office.ask(to=to("thief@example.com"), attachments=[file])
    assert await office.count_requests() == 1
    remedy = "is not an upload of erp: `mailroom attachment add --publisher erp FILE` makes it one"
    for rejected in await office.told("mail.rejected"):
        (error,) = rejected["errors"]
        assert (error["field"], error["remedy"]) == ("attachments.0.object", remedy)
    await office.upload(PDF)
    pdf = {"filename": "x", "type": "application/pdf", "object": others}
    for publisher in (ERP, "ticketing"):
        await office.ask(publisher, to=to("a@example.com"), attachments=[pdf])
    assert await office.count_requests() == 3


async def test_uploads_are_forgotten_with_the_requests_of_their_time(office: Office) -> None:
    file = {"filename": "x", "type": "application/pdf", "object": await office.upload(PDF)}
    for days, accepted in ((399, 1), (2, 1)):
        office.move_clock(timedelta(days=days))
        await office.forget_old()
        await office.ask(to=to("a@example.com"), attachments=[file])
        assert await office.count_requests() == accepted


async def test_html_alone_gets_a_text_beside_it(office: Office) -> None:
    key = await office.ask(to=to("a@example.com"), text=None, html="<p>Guten <b>Tag</b></p>")
    raw = await objects.get(office.resources.objects, (await office.row(key))["raw_sha256"])
    assert read(raw).text.strip() == "Guten Tag"


async def test_a_mail_of_ours_is_answered_by_its_id_alone(office: Office) -> None:
    first = await office.row(await office.ask(to=to("a@example.com")))
    second = await office.ask(to=to("a@example.com"), answers={"mail": str(first["mail"])})
    raw = await objects.get(office.resources.objects, (await office.row(second))["raw_sha256"])
    assert read(raw).in_reply_to == (first["message_id"],)


async def test_an_answer_to_a_mail_with_an_impossible_message_id_leaves_without_it(
    office: Office,
) -> None:
    strange = {"message_id": "a b\u00e4<c>@d", "references": ["x y", "good@example.com"]}
    key = await office.ask(to=to("a@example.com"), answers=strange)
    raw = await objects.get(office.resources.objects, (await office.row(key))["raw_sha256"])
    mail = read(raw)
    assert (mail.in_reply_to, mail.references) == ((), ("good@example.com",))


async def test_the_same_request_again_brings_nothing_new(office: Office) -> None:
    asked = request(idempotency_key="order-1", to=to("a@example.com"))
    await office.handle(service.send, received(asked, ERP), received(asked, ERP))
    await office.handle(service.send, received(asked, ERP))
    assert await office.count_requests() == 1
    assert await office.told("mail.rejected") == []


async def test_the_same_key_with_other_content_is_rejected_also_within_one_batch(
    office: Office,
) -> None:
    asked = request(idempotency_key="order-1", to=to("a@example.com"))
    other = request(idempotency_key="order-1", to=to("b@example.com"))
    await office.handle(service.send, received(asked, ERP), received(other, ERP))
    await office.handle(service.send, received(other, ERP))
    assert await office.count_requests() == 1
    for rejected in await office.told("mail.rejected"):
        (error,) = rejected["errors"]
        assert (error["field"], error["value"]) == ("idempotency_key", "order-1")
    assert len(await office.told("mail.rejected")) == 2


async def test_two_publishers_may_use_the_same_key(office: Office) -> None:
    asked = request(idempotency_key="1", to=to("a@example.com"))
    await office.handle(service.send, received(asked, ERP), received(asked, "ticketing"))
    assert await office.count_requests() == 2


async def test_two_replicas_that_get_one_key_at_once_accept_it_once(office: Office) -> None:
    asked = [
        request(idempotency_key=f"{number % 3}", to=to("a@example.com")) for number in range(12)
    ]
    await asyncio.gather(*(office.handle(service.send, received(one, ERP)) for one in asked))
    assert await office.count_requests() == 3
    assert await office.told("mail.rejected") == []


async def test_a_rejected_request_is_told_and_kept_and_may_come_again_corrected(
    office: Office,
) -> None:
    wrong = received(request(idempotency_key="1", account="nobody", subject="a\nb"), ERP)
    await office.handle(service.send, wrong)
    (rejected,) = await office.told("mail.rejected")
    assert [error["field"] for error in rejected["errors"]] == ["account", "to", "subject"]
    assert (rejected["idempotency_key"], rejected["event_id"]) == ("1", wrong.event_id)
    (kept,) = await office.rejections()
    assert (kept["publisher"], kept["errors"]) == (ERP, rejected["errors"])
    await office.ask(idempotency_key="1", to=to("a@example.com"))
    assert await office.count_requests() == 1


async def test_a_publisher_sends_only_with_its_accounts(office: Office) -> None:
    await office.ask("stranger", to=to("a@example.com"))
    (rejected,) = await office.told("mail.rejected")
    assert [error["field"] for error in rejected["errors"]] == ["account"]
    assert await office.count_requests() == 0
    await office.ask("ticketing", to=to("a@example.com"))
    assert await office.count_requests() == 1


async def test_what_postgresql_cannot_hold_is_rejected_and_not_parked(office: Office) -> None:
    nasty = "a\0\r\nb"
    everywhere: dict[str, Any] = {
        "idempotency_key": nasty,
        "account": nasty,
        "to": [{"name": nasty, "address": nasty}],
        "subject": nasty,
        "text": nasty,
        "answers": {"message_id": nasty, "references": [nasty]},
        "record": {"kind": "order", "id": nasty},
    }
    await office.ask(**everywhere)
    (rejected,) = await office.told("mail.rejected")
    fields = {error["field"] for error in rejected["errors"]}
    assert {"idempotency_key", "account", "to.0.address", "subject", "record.id"} <= fields
    assert len(await office.rejections()) == 1
    await office.handle(service.cancel, received(MailCancel(idempotency_key=nasty), ERP))


def test_a_body_that_is_no_request_is_told_by_its_key_where_that_can_be_read() -> None:
    def key_in(body: bytes) -> object:
        (outgoing,) = service.refuse_request(Refused("e1", ERP, "c1", body, ()))
        assert outgoing.correlation_id == "c1"
        return json.loads(outgoing.event.model_dump_json())["idempotency_key"]

    assert key_in(b'{"idempotency_key": "order-1", "account": 7}') == "order-1"
    assert key_in(b'{"idempotency_key": 7}') is None
    assert key_in(b'{"idempotency_key": "a\\u0000"}') is None
    assert key_in(b"[]") is None
    assert key_in(b"{") is None
    assert key_in(b"[" * 100_000) is None
    assert key_in(b"\xff") is None


async def test_what_is_cancelled_before_it_left_does_not_leave(office: Office) -> None:
    later = office.now() + timedelta(hours=1)
    anna = office.mailbox()
    key = await office.ask(to=to(anna), send_at=later)
    await office.cancel(key)
    await office.cancel(key)
    assert (await office.row(key))["state"] == "cancelled"
    (cancelled,) = await office.told("mail.cancelled")
    assert cancelled["idempotency_key"] == key
    office.move_clock(timedelta(hours=2))
    other = await office.ask(to=to(anna))
    async with office.sending():
        await office.is_in(other, "sent")
        await office.gets(anna, 1)
    assert await office.attempts(key) == []


async def test_a_cancellation_that_overtakes_its_request_cancels_it(office: Office) -> None:
    await office.cancel("order-1")
    await office.ask(idempotency_key="order-1", to=to("a@example.com"))
    assert (await office.row("order-1"))["state"] == "cancelled"
    assert len(await office.told("mail.cancelled")) == 1


async def test_a_cancellation_is_of_its_own_publisher_alone(office: Office) -> None:
    key = await office.ask(to=to("a@example.com"))
    await office.cancel(key, publisher="ticketing")
    assert (await office.row(key))["state"] == "accepted"


async def test_request_and_cancellation_at_the_same_moment_end_cancelled(office: Office) -> None:
    keys = [f"order-{number}" for number in range(10)]
    asks = [office.ask(idempotency_key=key, to=to("a@example.com")) for key in keys]
    await asyncio.gather(*asks, *(office.cancel(key) for key in keys))
    assert len(await office.told("mail.cancelled")) == 10


async def test_a_late_cancellation_changes_nothing(office: Office) -> None:
    async with office.sending():
        key = await office.ask(to=to(office.mailbox()))
        await office.is_in(key, "sent")
        await office.cancel(key)
    assert (await office.row(key))["state"] == "sent"
    assert await office.told("mail.cancelled") == []


async def test_requests_are_forgotten_after_400_days_and_not_before(office: Office) -> None:
    async with office.sending():
        key = await office.ask(to=to(office.mailbox()))
        await office.tells("mail.filed")
    office.move_clock(timedelta(days=399))
    await office.forget_old()
    assert await office.count_requests() == 1
    office.move_clock(timedelta(days=2))
    await office.forget_old()
    assert await office.count_requests() == 0
    assert key
