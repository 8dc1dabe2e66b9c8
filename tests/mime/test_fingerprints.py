from dataclasses import replace
from datetime import UTC, datetime

from mailroom.mime import Address, Draft, compose, fingerprint, read

RAW = compose(
    Draft(
        from_=Address("Joe", "joe@x.example"),
        to=(Address("", "us@y.example"),),
        subject="Question",
        text="Hello\n",
        message_id="1@x.example",
        date=datetime(2026, 1, 2, tzinfo=UTC),
    )
)
WAY = b"Delivered-To: other@y.example\r\nReceived: from a by b; Fri, 2 Jan 2026 00:00:00 +0000\r\n"


def without_id(raw: bytes) -> bytes:
    return raw.replace(b"Message-ID: <1@x.example>\r\n", b"")


def test_two_ways_of_one_mail_have_one_fingerprint() -> None:
    assert fingerprint(read(RAW)) == fingerprint(read(WAY + RAW.replace(b"\r\n", b"\n")))


def test_an_equal_message_id_alone_joins_nothing() -> None:
    mail = read(RAW)
    for other in (
        replace(mail, text="Other"),
        replace(mail, from_=(Address("", "eve@x.example"),)),
        replace(mail, date=datetime(2026, 1, 3, tzinfo=UTC)),
        replace(mail, message_id="2@x.example"),
    ):
        assert fingerprint(other) != fingerprint(mail)


def test_without_a_message_id_the_content_free_of_trace_headers_counts() -> None:
    mail = read(without_id(RAW))
    assert fingerprint(mail) == fingerprint(read(WAY + without_id(RAW)))
    changed = without_id(RAW).replace(b"Subject: Question", b"Subject: Another")
    assert fingerprint(mail) != fingerprint(read(changed))
