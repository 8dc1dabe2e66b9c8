"""What we compose reads the same in three independent readers, whatever the script and length."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

from fast_mail_parser import parse_email
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.mime import Address, Draft, File, compose, read

# Neither control characters and line ends, which compose refuses, nor blanks at the ends.
lines = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=120).map(
    str.strip
)
names = lines.map(lambda name: " ".join(name.split()))
filenames = lines.map(lambda name: name.replace("/", "").replace("\\", "").strip()).filter(bool)
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=400)

DRAFT = Draft(
    from_=Address("", "a@b.example"),
    to=(),
    subject="",
    text="",
    message_id="1@b.example",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)
often = settings(max_examples=150, deadline=None, derandomize=True)


def standard(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    return message


def line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@often
@given(subject=lines)
def test_a_subject_reads_the_same(subject: str) -> None:
    raw = compose(replace(DRAFT, subject=subject))
    fast = parse_email(raw).subject.strip()
    assert [read(raw).subject, str(standard(raw)["Subject"]), fast] == [subject] * 3


@often
@given(name=names, second=names)
def test_names_read_the_same_and_never_become_recipients(name: str, second: str) -> None:
    to = (Address(name, "x.y@z.example"), Address(second, "q@w.example"))
    raw = compose(replace(DRAFT, to=to))
    assert read(raw).to == to
    fast = parse_email(raw)
    assert [(box.display_name or "", box.address) for box in fast.to] == [
        (box.name, box.address) for box in to
    ]
    # Python's reader puts a blank between two encoded words of a name, so blanks do not count.
    stood = standard(raw)["To"].addresses
    assert ["".join(box.display_name.split()) for box in stood] == [
        "".join(box.name.split()) for box in to
    ]


@often
@given(text=texts)
def test_a_text_reads_the_same(text: str) -> None:
    raw = compose(replace(DRAFT, text=text))
    sent = line_feeds(text).rstrip("\n")
    fast = line_feeds(parse_email(raw).text_plain[0])
    stood = line_feeds(standard(raw).get_content())
    assert [read(raw).text.rstrip("\n"), stood.rstrip("\n"), fast.rstrip("\n")] == [sent] * 3


@often
@given(filename=filenames, content=st.binary(max_size=300))
def test_a_file_reads_the_same(filename: str, content: bytes) -> None:
    raw = compose(replace(DRAFT, attachments=(File(filename, "application/pdf", content),)))
    (ours,) = read(raw).attachments
    (stood,) = standard(raw).iter_attachments()
    (fast,) = parse_email(raw).attachments
    assert [stood.get_filename(), fast.filename] == [filename] * 2
    assert [stood.get_content(), fast.content] == [content] * 2
    assert ours.size == len(content)


@often
@given(text=texts, html=texts)
def test_text_html_and_image_read_the_same(text: str, html: str) -> None:
    logo = File("logo.png", "image/png", b"PNG", content_id="logo@b.example")
    raw = compose(replace(DRAFT, text=text, html=html, attachments=(logo,)))
    stood = standard(raw)
    fast = parse_email(raw)
    kinds = ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    assert [one.get_content_type() for one in stood.walk()] == kinds
    assert read(raw).html.rstrip("\n") == line_feeds(html).rstrip("\n")
    assert line_feeds(fast.text_html[0]).rstrip("\n") == line_feeds(html).rstrip("\n")
    assert [one.content_id for one in fast.attachments] == ["logo@b.example"]
