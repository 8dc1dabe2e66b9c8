import pytest

from mailroom.mime import read
from mailroom.mime.words import decoded, parameters


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("=?utf-8?B?w6TDtsO8?= end", "äöü end"),
        ("=?utf-8?Q?=C3?= =?utf-8?Q?=A4?=", "ä"),  # split inside of a character
        ("=?utf-8?B?w6?= =?utf-8?B?Q=?=", "ä"),  # split inside of a quantum
        ("=?iso-8859-1?Q?a?= =?utf-8?Q?=C3=A4?=", "aä"),
        ("a =?iso-8859-1?Q?b=E4?= c", "a bä c"),
        ("=?UTF-8*en?Q?a=C3=A4?=", "aä"),  # RFC 2231 section 5
        ("=?utf-8?Q?what??=", "what?"),
        ("=?utf-8?Q?a b?=", "a b"),  # a blank where none may be
        ("=?UTF-8?B?w6Q==?=", "ä"),  # too much padding
        ("=?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"),
        ("=?gb2312?B?xOO6ww==?=", "你好"),
        ("=?ks_c_5601-1987?B?vcXGvMfY?=", "신티해"),
        ("=?windows-1252?Q?=80_=93quoted=94?=", "€ “quoted”"),
        ("=?iso-8859-1?Q?=80?=", "€"),  # what latin1 means in the wild (WHATWG)
        ("=?nonsense?Q?=C3=A4?=", "ä"),
        ("=?=?=?", "=?=?=?"),
        ("Re: =?utf-8?B?4pyT?=[#1-a]", "Re: ✓[#1-a]"),
    ],
)
def test_an_encoded_word_reads_as_its_sender_meant_it(raw: str, seen: str) -> None:
    assert decoded(raw) == seen


@pytest.mark.parametrize(
    ("data", "hint", "seen"),
    [
        ("Größe à la carte".encode(), None, "Größe à la carte"),
        ("Größe".encode("latin_1"), None, "Größe"),
        ("Привет, как дела".encode("koi8_r"), None, "Привет, как дела"),
        ("안녕".encode("euc_kr"), "euc-kr", "안녕"),
        ("你好".encode("gbk"), "gb2312", "你好"),
        ("こんにちは世界".encode("shift_jis"), None, "こんにちは世界"),
    ],
)
def test_raw_eight_bit_in_a_header_is_read_by_utf8_then_the_body_s_charset_then_a_guess(
    data: bytes, hint: str | None, seen: str
) -> None:
    assert decoded(data.decode("latin_1"), hint) == seen


def test_a_line_end_inside_of_an_encoded_word_does_not_become_a_header() -> None:
    mail = read(b"Subject: =?utf-8?q?Hi=0D=0ABcc:_victim@x.example=00?=\r\n\r\n")
    assert mail.subject == "Hi Bcc: victim@x.example"


def test_no_control_character_survives_in_any_value_of_a_header() -> None:
    sender = b"From: =?utf-8?q?a=1Bb?= <x\x07@y>\r\n"
    mail = read(sender + b"Subject: a\x0bb\x7f\xc2\x85c\r\nX-Any: \x00\x01\r\n\r\n")
    values = [mail.subject, mail.from_[0].name, mail.from_[0].address, *dict(mail.headers).values()]
    assert all(value.isprintable() for value in values), values


@pytest.mark.parametrize(
    ("raw", "name", "seen"),
    [
        ("a; filename*=UTF-8''%E4%BD%A0.pdf; filename=x.pdf", "filename", "你.pdf"),
        ("a; filename*0*=iso-8859-1''%E4a; filename*1=\"b.txt\"", "filename", "äab.txt"),
        ('a; filename*1="b.txt"; filename*0="a"', "filename", "ab.txt"),
        ('a; filename="=?utf-8?B?w6Q=?=.pdf"', "filename", "ä.pdf"),
        ("a; filename==?utf-8?Q?=C3=A4?=", "filename", "ä"),
        ("a; filename=My file (1).pdf; size=3", "filename", "My file (1).pdf"),
        ('a; filename="a\\"b;c.txt"', "filename", 'a"b;c.txt'),
        ('a; filename="C:\\x\\y.doc"', "filename", "C:\\x\\y.doc"),
        ('a; filename="open.txt', "filename", "open.txt"),
        ("a; FileName = x.txt ; b=c", "filename", "x.txt"),
        ("a; filename=" + "Übersicht.pdf".encode().decode("latin_1"), "filename", "Übersicht.pdf"),
    ],
)
def test_a_parameter_is_read_in_each_form_that_senders_use(raw: str, name: str, seen: str) -> None:
    assert parameters(raw)[name] == seen


def test_a_line_that_is_no_field_costs_itself_alone() -> None:
    mail = read(b"quite odd line\r\nSubject: a\r\n>broken\r\nFrom: x@y.example\r\n\r\nbody")
    assert (mail.subject, mail.from_[0].address, mail.text) == ("a", "x@y.example", "body")
    assert "a line of the header is no field" in mail.defects


def test_a_body_that_begins_without_a_blank_line_is_not_lost() -> None:
    mail = read(b"Subject: a\r\nDear all\r\nI forgot the blank line.\r\n")
    assert (mail.subject, mail.text) == ("a", "Dear all\nI forgot the blank line.\n")
    assert mail.defects == ("no blank line between header and body",)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r", b"\r\r\n"])
def test_any_line_ends_will_do(line_end: bytes) -> None:
    lines = [b"From x@y Mon Jan  2 15:04:05 2006", b"Subject: a", b" b", b"", b"text", b"more"]
    mail = read(line_end.join(lines))
    assert (mail.subject, mail.text) == ("a b", "text\nmore")


def test_message_ids_are_read_without_brackets_in_order_and_once() -> None:
    mail = read(
        b"Message-ID: <a@x>\r\nIn-Reply-To: your mail of Monday <b@y>\r\n"
        b"References: <c@z> <d@\r\n z> junk <c@z>\r\n\r\n"
    )
    assert mail.message_id == "a@x"
    assert mail.in_reply_to == ("b@y",)
    assert mail.references == ("c@z", "d@z")


def test_the_envelope_is_told_as_the_headers_have_it() -> None:
    absent = read(b"Subject: a\r\n\r\n")
    null = read(b"Return-Path: <>\r\nDelivered-To: a@x\r\nX-Original-To: b@x\r\n\r\n")
    assert (absent.return_path, absent.delivered_to) == (None, ())
    assert (null.return_path, null.delivered_to) == ("", ("a@x", "b@x"))


def test_every_bracket_with_a_number_sign_is_a_tag() -> None:
    mail = read(b"Subject: AW: [#1042-k7f3q] x [list]\r\n\r\nsee [Ticket#2024] and [#1042-k7f3q]")
    assert mail.tags == ("[#1042-k7f3q]", "[Ticket#2024]")


@pytest.mark.parametrize(
    ("header", "spam"),
    [
        (b"X-Spam-Flag: YES", True),
        (b"X-Spam-Status: Yes, score=9", True),
        (b"X-Spam-Status: No, score=1", False),
        (b"X-MS-Exchange-Organization-SCL: 6", True),
        (b"X-MS-Exchange-Organization-SCL: -1", False),
        (b"Authentication-Results: mx; spf=fail", False),
    ],
)
def test_spam_verdicts_are_kept_and_concluded(header: bytes, *, spam: bool) -> None:
    mail = read(header + b"\r\n\r\n")
    name, _, value = header.decode().partition(": ")
    assert mail.verdicts == ((name.lower(), value),)
    assert mail.spam is spam
