"""What we compose reads the same in a third reader: Dovecot's ENVELOPE and BODYSTRUCTURE."""

import imaplib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

from deploy import local
from mailroom.mime import Address, Draft, File, compose
from tests.local.mail import PASSWORD, logged_in

DRAFT = Draft(
    from_=Address("Service, GmbH", "service@firm.example"),
    to=(Address("Müller, Hans", "hans@kunde.example"),),
    subject="Re: Größe der Bestellung",
    text="Guten Tag\n",
    message_id="1@firm.example",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)
NAMES = [
    "",
    "Jane",
    "Doe, Jane " * 20,
    'a "b" \\c',
    "Größe",
    "山田太郎" * 20,
    "=?utf-8?q?x?=",
    "a@b <c@d>",
]
SUBJECTS = ["", "Re: [#1-a] Größe der 名" * 10, "x" * 2000, "two  blanks", "=?utf-8?q?x?="]
FILES = ["a.pdf", "Größe (1).pdf", "名" * 100 + ".pdf", "a;b.pdf", "x" * 200 + ".pdf"]

_TOKEN = re.compile(rb'\(|\)|"((?:[^"\\]|\\.)*)"|\{(\d+)\}|([^\s()"]+)', re.DOTALL)


@pytest.fixture(scope="module")
def inbox(dovecot: local.Servers) -> Iterator[imaplib.IMAP4_SSL]:
    address = f"user-{uuid4().hex[:8]}@office.test"
    local.add_mail_user(dovecot, address, PASSWORD)
    with logged_in(dovecot, address) as client:
        yield client


def fetched(client: imaplib.IMAP4_SSL, raw: bytes, item: str) -> list[Any]:
    """The item of a mail that was just appended, as nested lists of bytes; NIL is b""."""
    client.append("INBOX", "", "", raw)
    _, (count,) = client.select("INBOX")
    _, answer = client.fetch((count or b"").decode(), f"({item})")
    pieces = [part if isinstance(part, bytes) else b" ".join(part) for part in answer if part]
    told: list[Any] = nested(b"".join(pieces))[0][1]
    return told


def nested(answer: bytes) -> list[Any]:
    stack: list[list[Any]] = [[]]
    at = answer.index(b"(")
    while match := _TOKEN.search(answer, at):
        at = match.end()
        if match[0] == b"(":
            stack.append([])
        elif match[0] == b")":
            closed = stack.pop()
            stack[-1].append(closed)
        elif match[2]:
            size = int(match[2])
            start = at + 1  # imaplib puts the literal behind a blank
            stack[-1].append(answer[start : start + size])
            at = start + size
        elif match[1] is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[1]))
        else:
            stack[-1].append(b"" if match[3] == b"NIL" else match[3])
    return stack[0]


def seen(value: bytes) -> str:
    return str(make_header(decode_header(value.decode()))) if value else ""


@pytest.mark.parametrize("name", NAMES)
def test_dovecot_reads_our_recipients(inbox: imaplib.IMAP4_SSL, name: str) -> None:
    to = (Address(name, "x.y@z.example"), Address("", "q@w.example"))
    envelope = fetched(inbox, compose(replace(DRAFT, to=to)), "ENVELOPE")
    assert [(seen(box[0]), b"@".join(box[2:4]).decode()) for box in envelope[5]] == [
        (name.strip(), "x.y@z.example"),
        ("", "q@w.example"),
    ]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_dovecot_reads_our_subject(inbox: imaplib.IMAP4_SSL, subject: str) -> None:
    envelope = fetched(inbox, compose(replace(DRAFT, subject=subject)), "ENVELOPE")
    assert seen(envelope[1]) == subject
    assert envelope[9] == b"<1@firm.example>"


@pytest.mark.parametrize("name", FILES)
def test_dovecot_reads_our_parts_and_file_names(inbox: imaplib.IMAP4_SSL, name: str) -> None:
    logo = File("logo.png", "image/png", b"PNG", content_id="logo@firm.example")
    draft = replace(DRAFT, html="<p>x", attachments=(File(name, "application/pdf", b"%PDF"), logo))
    structure = fetched(inbox, compose(draft), "BODYSTRUCTURE")
    (plain, (html, image, related, *_), alternative, *_), pdf, mixed, *_ = structure
    kinds = [b"/".join(part[:2]).lower() for part in (plain, html, image, pdf)]
    assert kinds == [b"text/plain", b"text/html", b"image/png", b"application/pdf"]
    assert [kind.lower() for kind in (related, alternative, mixed)] == [
        b"related", b"alternative", b"mixed",
    ]  # fmt: skip
    assert image[3] == b"<logo@firm.example>"
    disposition = next(
        part for part in pdf if isinstance(part, list) and part[:1] == [b"attachment"]
    )
    pairs = dict(zip(disposition[1][::2], disposition[1][1::2], strict=True))
    assert filename(pairs) == name


def filename(parameters: dict[bytes, bytes]) -> str:
    """RFC 2231 undone as far as Dovecot leaves it: it joins the pieces."""
    if b"filename" in parameters:
        return parameters[b"filename"].decode()
    return unquote(parameters[b"filename*"].decode().split("''", 1)[1])
