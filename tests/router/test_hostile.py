"""Mails made to break their reader, a batch of them together."""

import hashlib
from uuid import uuid4

import pytest

from mailroom import mime
from mailroom.messaging.admission import LARGEST_BODY
from mailroom_router.placing import place, routed
from mailroom_router.reader import fingerprint
from tests.router import test_service
from tests.router.samples import INFO_ACCOUNT, a_world, an_arrival
from tests.router.test_service import QUESTION, Router, received

AWKWARD = {
    "nothing": b"",
    "no header": b"\n\nbody",
    "only NUL": b"\0" * 5000,
    "NUL in header and text": QUESTION.replace(b"A question", b"A \0 question").replace(
        b"?", b"\0"
    ),
    "unknown charset": QUESTION.replace(
        b"Subject: A question",
        b"Subject: =?x-nonsense?Q?=E9?=\nContent-Type: text/plain; charset=no",
    ),
    "lone surrogate": QUESTION.replace(b"A question", b"=?utf-16?B?2AA=?= =?utf-8?Q?=ED=A0=80?="),
    "CR LF in an encoded word": QUESTION.replace(
        b"A question", b"=?utf-8?Q?x=0D=0ABcc:_eve@shop.example?="
    ),
    "endless Message-ID": QUESTION.replace(b"question@shop", b"q" * 100_000 + b"@shop"),
    "many references": QUESTION.replace(
        b"\nMessage-ID", b"\nReferences: " + b"<a@b.example> " * 20_000 + b"\nMessage-ID"
    ),
    "deep nesting": QUESTION.replace(
        b"\nMessage-ID", b"\nContent-Type: multipart/mixed; boundary=b\nMessage-ID"
    )
    + b"--b\nContent-Type: multipart/mixed; boundary=b\n\n" * 5000,
    "no boundary": QUESTION.replace(
        b"\nMessage-ID", b"\nContent-Type: multipart/mixed\nMessage-ID"
    ),
    "group and garbage in To": QUESTION.replace(
        b"To: service@firm.example", b'To: undisclosed:;, <>, @, "(, service@firm.example'
    ),
    "bad date": QUESTION.replace(b"Mon, 2 Mar 2026", b"Mon, 99 Foo 99999999999"),
    "bare CR": QUESTION.replace(b"\n", b"\r"),
    "random": bytes(range(256)) * 400,
}


HOSTILE = {
    name: raw.replace(b"question@shop", b"%d@shop" % number)
    for number, (name, raw) in enumerate(AWKWARD.items())
}


async def test_hostile_mails_in_a_batch_are_each_read_and_placed(resources: Router) -> None:
    events = [await received(resources, raw) for raw in HOSTILE.values()]
    mails = await test_service.routed(resources, *events)
    assert len(mails) == len({mail.mail for mail in mails}) == len(HOSTILE)
    by_name = dict(zip(HOSTILE, mails, strict=True))
    assert by_name["no header"].defects
    assert "\0" not in by_name["NUL in header and text"].model_dump_json()
    assert by_name["CR LF in an encoded word"].subject.isprintable()
    assert len(by_name["endless Message-ID"].message_id or "") < 2000


async def test_the_same_hostile_mails_are_known_again(resources: Router) -> None:
    first = await test_service.routed(
        resources, *[await received(resources, raw) for raw in HOSTILE.values()]
    )
    again = await test_service.routed(
        resources, *[await received(resources, raw, INFO_ACCOUNT) for raw in HOSTILE.values()]
    )
    assert [mail.mail for mail in again] == [mail.mail for mail in first]


def test_mails_in_which_nothing_can_be_read_are_not_taken_for_one() -> None:
    prints = [fingerprint(mime.read(raw), raw) for raw in (b"", b"\0" * 9, b"\0" * 10)]
    assert len(set(prints)) == 3
    assert prints[0] == hashlib.sha256(b"").hexdigest()
    assert fingerprint(mime.read(QUESTION), QUESTION) == mime.fingerprint(mime.read(QUESTION))


HEADER = b"From: a@b.example\nMessage-ID: <1@b.example>\n"
HUGE = {
    "addresses": HEADER + b"To: " + b"a@b," * 250_000 + b"\n\n",
    "names to escape": HEADER + b"To: " + b'"%s" <a@b>,' % (b'\\"' * 400) * 1200 + b"\n\n",
    "references": HEADER + b"References: " + b"<%s@b> " % (b"a" * 900) * 1000 + b"\n\n",
    "subject to escape": HEADER + b"Subject: " + b"\\" * 1_000_000 + b"\n\n",
    "attachments": HEADER
    + b"Content-Type: multipart/mixed; boundary=b\n\n"
    + b"--b\nContent-Disposition: attachment; filename=x%s\n\n\n" % (b"y" * 200) * 20_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_an_event_stays_smaller_than_what_consumers_take(name: str) -> None:
    (placed,) = place([an_arrival(mime.read(HUGE[name]))], {"fingerprint-1": uuid4()}, a_world())
    assert len(routed(placed).model_dump_json().encode()) < LARGEST_BODY / 4
