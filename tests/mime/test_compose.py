from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mailroom.mime import Address, Draft, File, HeaderRefused, compose, part, read, stamp

DRAFT = Draft(
    from_=Address("Service, GmbH", "service@firm.example"),
    to=(Address("Müller, Hans", "hans@kunde.example"),),
    subject="Re: Größe der Bestellung",
    text="Guten Tag,\nanbei.\n",
    message_id="1@firm.example",
    date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
)
PDF = File("Größe (1).pdf", "application/pdf", b"%PDF\x00\r\n.\r\n")
LOGO = File("logo.png", "image/png", b"PNG", content_id="logo@firm.example")


def test_what_is_composed_is_read_back() -> None:
    draft = replace(
        DRAFT,
        cc=(Address("", "cc@x.example"),),
        reply_to=(Address("Reply", "reply@x.example"),),
        html='<p>Guten Tag</p><img src="cid:logo@firm.example">',
        attachments=(PDF, LOGO),
        in_reply_to=("a@b",),
        references=("z@b", "a@b"),
        auto_submitted="auto-replied",
        headers=(("X-Mailroom-Mail", "3f1c"),),
        tag="[#1042-k7f3q]",
    )
    raw = compose(draft)
    mail = read(raw)
    assert (mail.from_, mail.to, mail.cc, mail.reply_to) == (
        (draft.from_,), draft.to, draft.cc, draft.reply_to,
    )  # fmt: skip
    assert mail.subject == "Re: [#1042-k7f3q] Größe der Bestellung"
    assert (mail.text, mail.html) == (draft.text, f"{draft.html}\n")
    assert (mail.message_id, mail.in_reply_to, mail.references) == (
        "1@firm.example",
        ("a@b",),
        ("z@b", "a@b"),
    )
    assert (mail.date, mail.auto, mail.defects) == (draft.date, "replied", ())
    assert ("X-Mailroom-Mail", "3f1c") in mail.headers
    logo, pdf = mail.attachments
    assert (logo.content_id, logo.disposition, part(raw, logo.part)) == (
        "logo@firm.example",
        "inline",
        b"PNG",
    )
    assert (pdf.filename, pdf.disposition, part(raw, pdf.part)) == (
        PDF.filename,
        "attachment",
        PDF.content,
    )


def test_the_same_draft_yields_the_same_bytes() -> None:
    draft = replace(DRAFT, html="<p>x</p>", attachments=(PDF,))
    assert compose(draft) == compose(replace(draft))


def test_another_content_has_another_boundary() -> None:
    one = compose(replace(DRAFT, attachments=(PDF,)))
    two = compose(replace(DRAFT, attachments=(replace(PDF, content=b"other"),)))
    assert one.split(b"boundary=")[1][:60] != two.split(b"boundary=")[1][:60]


def test_lines_end_in_crlf_and_none_is_too_long() -> None:
    draft = replace(
        DRAFT,
        subject="x" * 3000,
        text="y" * 5000 + "\nbare\rreturn\r\nz",
        to=tuple(Address("Name " * 20, f"a{i}@x.example") for i in range(200)),
        attachments=(File("名" * 250, "application/pdf", b"z" * 5000),),
        references=tuple(f"{i}@x.example" for i in range(500)),
    )
    raw = compose(draft)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert not {b"\r", b"\n"} & set(raw.replace(b"\r\n", b""))
    assert read(raw).subject == "x" * 3000


def test_every_line_end_of_a_text_is_crlf() -> None:
    raw = compose(replace(DRAFT, text="a\rb\nc\r\nd\n.\n"))
    assert raw.endswith(b"\r\n\r\na\r\nb\r\nc\r\nd\r\n.\r\n")


def test_a_local_part_that_is_not_ascii_is_refused_with_the_reason() -> None:
    with pytest.raises(HeaderRefused, match="the part before @ must be ASCII"):
        compose(replace(DRAFT, to=(Address("", "müller@x.example"),)))


@pytest.mark.parametrize(
    ("subject", "tagged"),
    [
        ("Re: Frage", "Re: [#1-a] Frage"),
        ("AW: Re: Frage", "AW: [#1-a] Re: Frage"),
        ("Frage", "[#1-a] Frage"),
        ("Re:", "Re: [#1-a]"),
        ("", "[#1-a]"),
        ("Re: [#1-a] Frage", "Re: [#1-a] Frage"),
        ("Größe [#1-a] Übel", "Größe [#1-a] Übel"),
    ],
)
def test_a_tag_is_stamped_once_after_re(subject: str, tagged: str) -> None:
    assert stamp(subject, "[#1-a]") == tagged


@pytest.mark.parametrize("subject", ["Größe", "Re: Größe", "Größe [#1-a] Übel", "名" * 200])
def test_a_tag_stands_in_plain_ascii_outside_of_encoded_words(subject: str) -> None:
    raw = compose(replace(DRAFT, subject=subject, tag="[#1-a]"))
    assert raw.split(b"\r\nMessage-ID")[0].count(b" [#1-a]") == 1


CONTROLS = ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\x00b", "a\x7fb", "a\x85b", "a\u2028b", "a\udc80b"]
FIELDS = [
    "subject", "name", "address", "to", "id", "reference", "header", "tag", "filename", "type",
    "cid",
]  # fmt: skip


@pytest.mark.parametrize("value", CONTROLS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_control_character_is_refused_in_every_field(field: str, value: str) -> None:
    file = replace(PDF, content_id="x@y")
    changed = {
        "subject": replace(DRAFT, subject=value),
        "name": replace(DRAFT, from_=Address(value, "a@b.example")),
        "address": replace(DRAFT, from_=Address("", f"{value}@b.example")),
        "to": replace(DRAFT, to=(Address("", f"a@b.example{value}"),)),
        "id": replace(DRAFT, message_id=value),
        "reference": replace(DRAFT, references=(value,)),
        "header": replace(DRAFT, headers=(("X-Any", value),)),
        "tag": replace(DRAFT, tag=f"[{value}]"),
        "filename": replace(DRAFT, attachments=(replace(PDF, filename=value),)),
        "type": replace(DRAFT, attachments=(replace(PDF, type=f"text/{value}"),)),
        "cid": replace(DRAFT, html="x", attachments=(replace(file, content_id=value),)),
    }[field]
    with pytest.raises(HeaderRefused) as refused:
        compose(changed)
    assert value in refused.value.value
    assert refused.value.field in str(refused.value)


@pytest.mark.parametrize("name", ["Bcc", "From", "Content-Type", "X Y", "X:Y", "Ünder", ""])
def test_an_extra_header_may_neither_replace_ours_nor_carry_a_wrong_name(name: str) -> None:
    with pytest.raises(HeaderRefused):
        compose(replace(DRAFT, headers=((name, "x"),)))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@faß.example", "a@xn--fa-hia.example"),  # IDNA 2008: another domain than fass.example
        ('"joe, smith"@x.example', '"joe, smith"@x.example'),
        ("a+b=c@x.example", "a+b=c@x.example"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("-a@x.example", "-a@x.example"),
    ],
)
def test_an_address_is_written_in_ascii(given: str, written: str) -> None:
    mail = read(compose(replace(DRAFT, to=(Address("", given),))))
    assert mail.to == (Address("", written),)


@pytest.mark.parametrize(
    "address",
    ["", "nobody", "a b@x.example", "a,b@x.example", "<a@b>", "@a:b@c.example",
     "a@b c", "a@-b.example", "a@", "@x.example", "a..b@x.example", "a@x, c@d.example", "a@b..c",
     "a@b.", "a@b_c", "a@xn--a\u00e4.example"],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_field_and_value(address: str) -> None:
    with pytest.raises(HeaderRefused) as refused:
        compose(replace(DRAFT, to=(Address("", address),)))
    assert (refused.value.field, refused.value.value) == ("To", address)


def test_a_name_with_a_comma_stays_one_recipient_however_long() -> None:
    # The standard library of Python 3.11 loses the quotes where it folds such a name.
    name = "Doe, Jane " * 20
    assert (
        read(compose(replace(DRAFT, to=(Address(name, "a@b.example"),)))).to[0].name == name.strip()
    )


def test_what_looks_like_an_encoded_word_is_not_decoded() -> None:
    # The standard library of Python 3.11 writes it bare, so that readers decode it.
    draft = replace(DRAFT, subject="=?utf-8?q?x?= y", to=(Address("=?utf-8?q?x?=", "a@b.example"),))
    mail = read(compose(draft))
    assert (mail.subject, mail.to[0].name) == ("=?utf-8?q?x?= y", "=?utf-8?q?x?=")


def test_a_foreign_message_id_that_no_header_can_hold_is_left_out() -> None:
    mail = read(compose(replace(DRAFT, references=("good@x", "bad id@x", "größe@x"))))
    assert mail.references == ("good@x",)


def test_a_mail_as_attachment_goes_as_bytes() -> None:
    inner = File("m.eml", "message/rfc822", b"Subject: x\r\n\r\ny")
    mail = read(compose(replace(DRAFT, attachments=(inner,))))
    assert [(one.filename, one.type) for one in mail.attachments] == [
        ("m.eml", "application/octet-stream")
    ]


def test_a_date_without_zone_is_refused() -> None:
    with pytest.raises(HeaderRefused):
        compose(replace(DRAFT, date=datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None)))
