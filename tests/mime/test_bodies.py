import binascii
import struct
from base64 import b64encode
from pathlib import Path

import pytest

from mailroom.mime import charsets, part, read

MAILS = Path(__file__).parent / "mails"


def multipart(kind: str, *parts: bytes, boundary: str = "b") -> bytes:
    mark = f"--{boundary}".encode()
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
    return head + b"".join(mark + b"\r\n" + one + b"\r\n" for one in parts) + mark + b"--\r\n"


def leaf(kind: str, content: bytes, *fields: str) -> bytes:
    lines = [f"Content-Type: {kind}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


PLAIN = leaf("text/plain; charset=utf-8", "Grüße".encode())
HTML = leaf("text/html; charset=utf-8", "<p>Grüße</p>".encode())
PDF = leaf(
    "application/pdf; name=a.pdf",
    b64encode(b"%PDF\x00"),
    "Content-Transfer-Encoding: base64",
    "Content-Disposition: attachment",
)
IMAGE = leaf(
    "image/png", b64encode(b"PNG"), "Content-Transfer-Encoding: base64", "Content-ID: <logo@x>"
)


def test_text_html_and_attachments_are_told_apart() -> None:
    related = multipart("related", HTML, IMAGE, boundary="r")
    alternative = multipart("alternative", PLAIN, related, boundary="a")
    raw = multipart("mixed", alternative, PDF)
    mail = read(raw)
    assert (mail.text, mail.html, mail.defects) == ("Grüße", "<p>Grüße</p>", ())
    image, pdf = mail.attachments
    assert (image.part, image.type, image.content_id, image.disposition) == (
        "1.2.2", "image/png", "logo@x", None,
    )  # fmt: skip
    assert (pdf.part, pdf.filename, pdf.size, pdf.disposition) == ("2", "a.pdf", 5, "attachment")
    assert [part(raw, one.part) for one in mail.attachments] == [b"PNG", b"%PDF\x00"]


def test_a_part_that_is_not_there_is_refused_by_its_number() -> None:
    with pytest.raises(KeyError, match=r"7\.1"):
        part(multipart("mixed", PLAIN, PDF), "7.1")


def test_a_mail_without_text_is_read_from_its_html() -> None:
    mail = read(leaf("text/html", b"<p>Hello<br>you</p><table><tr><td>a<td>b</table>"))
    assert mail.text == "Hello\nyou\n\na b"


def test_a_blank_text_beside_html_counts_as_none() -> None:
    mail = read(multipart("alternative", leaf("text/plain", b" \r\n"), HTML))
    assert mail.text == "Grüße"


def test_texts_below_each_other_are_one_text() -> None:
    mail = read(multipart("mixed", PLAIN, leaf("text/plain", b"footer")))
    assert mail.text == "Grüße\nfooter"


def test_an_attached_text_is_an_attachment() -> None:
    log = leaf("text/plain", b"log", 'Content-Disposition: attachment; filename="log.txt"')
    named = leaf('text/plain; name="notes.txt"', b"notes")
    mail = read(multipart("mixed", PLAIN, log, named))
    assert mail.text == "Grüße"
    assert [one.filename for one in mail.attachments] == ["log.txt", "notes.txt"]


@pytest.mark.parametrize("kind", ["related", "report", "signed"])
def test_a_text_that_belongs_to_the_first_part_is_not_for_the_reader(kind: str) -> None:
    mail = read(multipart(kind, PLAIN, leaf("text/plain", b"returned header")))
    assert (mail.text, [one.type for one in mail.attachments]) == ("Grüße", ["text/plain"])


def test_the_root_of_related_parts_may_stand_last() -> None:
    root = leaf("text/html", b"<p>hi</p>", "Content-ID: <root>")
    mail = read(b'Content-Type: multipart/related; boundary=b; start="<root>"\r\n\r\n--b\r\n'
                + IMAGE + b"\r\n--b\r\n" + root + b"\r\n--b--")  # fmt: skip
    assert (mail.html, [one.type for one in mail.attachments]) == ("<p>hi</p>", ["image/png"])


def test_boundaries_that_begin_alike_are_not_taken_for_one_another() -> None:
    inner = multipart("alternative", PLAIN, HTML, boundary="b-inner")
    mail = read(multipart("mixed", inner, PDF, boundary="b"))
    assert (mail.text, mail.html) == ("Grüße", "<p>Grüße</p>")
    assert [one.filename for one in mail.attachments] == ["a.pdf"]


@pytest.mark.parametrize("header", ["multipart/mixed", "multipart/mixed; boundary=other"])
def test_parts_are_found_though_the_boundary_is_not_the_declared_one(header: str) -> None:
    body = b"--b\r\n" + PLAIN + b"\r\n--b\r\n" + PDF + b"\r\n--b--"
    mail = read(f"Content-Type: {header}\r\n\r\n".encode() + body)
    assert (mail.text, len(mail.attachments), len(mail.defects)) == ("Grüße", 1, 1)


def test_a_multipart_that_breaks_off_keeps_what_came() -> None:
    mail = read(multipart("mixed", PLAIN, PDF).rpartition(b"--b--")[0])
    assert (mail.text, len(mail.attachments)) == ("Grüße", 1)
    assert mail.defects == ("multipart has no end",)


def test_an_attached_mail_is_one_attachment_and_its_text_is_not_ours() -> None:
    inner = b"Subject: inner\r\n\r\ninner text"
    attached = leaf("message/rfc822", inner, "Content-Disposition: attachment; filename=m.eml")
    raw = multipart("mixed", PLAIN, attached)
    mail = read(raw)
    assert mail.text == "Grüße"
    assert [(one.filename, one.type) for one in mail.attachments] == [("m.eml", "message/rfc822")]
    assert part(raw, "2") == inner


@pytest.mark.parametrize(
    ("charset", "content", "seen", "defect"),
    [
        ("utf-8", "ä€😀".encode(), "ä€😀", None),
        ("iso-8859-1", "ä€".encode("cp1252"), "ä€", None),
        ("iso-8859-1", "Größe".encode(), "Größe", "is UTF-8, not iso-8859-1"),
        ("us-ascii", "Größe".encode("latin_1"), "Größe", "not valid us-ascii"),
        ("us-ascii", "Привет, как дела".encode("cp1251"), "Привет, как дела", "not valid us-ascii"),
        ("utf-8", "\ufeffGröße".encode(), "Größe", None),
        ("utf-8", "Größe, Übel".encode("latin_1"), "Größe, Übel", "not valid utf-8"),
        ("utf-8", b"Gr\xc3\xb6\xc3\x9fe \xff", "Größe \ufffd", "not valid utf-8"),
        ("nonsense", "Größe".encode(), "Größe", "unknown charset nonsense"),
        ("punycode", b"a-b\xe4", "a-bä", "unknown charset punycode"),
        ("unicode_escape", b"\\x41\xe4", "\\x41ä", "unknown charset unicode_escape"),
        ("shift_jis", "日本①".encode("cp932"), "日本①", None),
        ("iso-2022-jp", b"\x1b$B-!\x1b(B", "①", "not valid iso-2022-jp"),
        ("gb2312", "你好镕".encode("gbk"), "你好镕", None),
        ("ks_c_5601-1987", "똠방".encode("cp949"), "똠방", None),
        ("iso-8859-8-i", "שלום".encode("cp1255"), "שלום", None),
        ("koi8-r", "Привет".encode("koi8_r"), "Привет", None),
        ("utf-16", "Größe".encode("utf_16"), "Größe", None),
        ("utf-7", b"Gr+APYA3w-e", "Größe", None),
        ("windows-1252http-equiv", "Größe".encode("latin_1"), "Größe", None),
    ],
)
def test_text_is_read_in_the_charset_that_its_sender_meant(
    charset: str, content: bytes, seen: str, defect: str | None
) -> None:
    body = leaf(
        f"text/plain; charset={charset}", b64encode(content), "Content-Transfer-Encoding: base64"
    )
    mail = read(body)
    assert mail.text == seen
    assert mail.defects == ((defect,) if defect else ())


def test_text_without_a_charset_is_guessed() -> None:
    mail = read(b"Subject: a\r\n\r\n" + "Привет, как ваши дела сегодня".encode("cp1251"))
    assert mail.text == "Привет, как ваши дела сегодня"


def test_a_charset_is_guessed_where_the_text_leaves_ascii() -> None:
    text = "ascii only. " * 5_000 + "Привет, как ваши дела сегодня"
    assert read(b"Subject: a\r\n\r\n" + text.encode("koi8_r")).text == text


def test_html_is_read_in_the_charset_that_it_names_itself() -> None:
    html = '<meta charset="iso-8859-2"><p>Zażółć gęślą jaźń'
    assert read(leaf("text/html", html.encode("iso8859_2"))).text == "Zażółć gęślą jaźń"


def test_every_charset_of_the_table_is_one_that_python_has() -> None:
    for name in (*charsets._MEANT, *charsets._CODECS):
        codec = charsets.codec_of(name)
        assert codec is not None, name
        b"".decode(codec)


def test_neither_nul_nor_a_lone_surrogate_is_left_in_a_text() -> None:
    nul = read(b"Content-Type: text/plain; charset=utf-8\r\n\r\na\x00b")
    surrogate = read(b"Content-Type: text/plain; charset=utf-7\r\n\r\na+2AA-b")
    assert (nul.text, surrogate.text) == ("ab", "a\ufffdb")


@pytest.mark.parametrize(
    "content",
    [
        b"YWJj\r\nZGVm",
        b"YWJj!ZG Vm",
        b"YWI=Y2RlZg",  # two encoded runs, the second without padding
        b"YWJjZGVm\r\n-- \r\n",
        b"YWJjZGVmZ",  # a letter too many
        b"YWJjZGVmZw==\r\n______\r\nlist footer",
    ],
)
def test_broken_base64_gives_what_can_be_saved(content: bytes) -> None:
    mail = read(leaf("text/plain", content, "Content-Transfer-Encoding: base64"))
    assert mail.text.startswith("abcdef")
    assert len(mail.text) <= 7


def test_quoted_printable_is_read_though_it_is_broken() -> None:
    body = b"a=\r\nb =3D =ZZ =E4 \r\n="
    mail = read(
        leaf("text/plain; charset=latin1", body, "Content-Transfer-Encoding: Quoted-Printable")
    )
    assert mail.text.startswith("ab = =ZZ ä")


@pytest.mark.parametrize("encoding", ["BASE64", "base64;", '"base64"', "base64 (coded)"])
def test_a_transfer_encoding_is_known_as_it_is_spelled(encoding: str) -> None:
    mail = read(leaf("text/plain", b"YWJj", f"Content-Transfer-Encoding: {encoding}"))
    assert mail.text == "abc"


def test_a_soft_line_break_may_have_got_blanks_behind_it() -> None:
    body = b"one = \r\nline=\t\r\n."
    assert (
        read(leaf("text/plain", body, "Content-Transfer-Encoding: quoted-printable")).text
        == "one line."
    )


def test_a_file_saved_with_a_byte_order_mark_is_read() -> None:
    mail = read(b"\xef\xbb\xbfSubject: a\r\n\r\nb")
    assert (mail.subject, mail.text, mail.defects) == ("a", "b", ())


def test_a_uuencoded_file_in_the_text_is_an_attachment() -> None:
    data = bytes(range(256))
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    body = b"See below.\nbegin 644 Bild 1.gif\n" + b"".join(lines) + b"`\nend\nRegards\n"
    raw = b"Subject: a\n\n" + body
    mail = read(raw)
    assert mail.text == "See below.\nRegards\n"
    (one,) = mail.attachments
    assert (one.part, one.filename, one.type, one.size) == ("1-1", "Bild 1.gif", "image/gif", 256)
    assert part(raw, "1-1") == data


def test_a_text_that_only_speaks_of_begin_644_keeps_its_lines() -> None:
    body = "begin 644 is how it starts\nand then text\nend\n"
    assert read(b"Subject: a\n\n" + body.encode()).text == body


def attribute(level: int, name: int, kind: int, data: bytes) -> bytes:
    """One attribute of MS-OXTNEF section 2.1.3.2."""
    head = struct.pack("<BHHI", level, name, kind, len(data))
    return head + data + struct.pack("<H", sum(data) & 0xFFFF)


def winmail(*files: tuple[str, bytes]) -> bytes:
    """A TNEF stream with files: a title of DOS, and the name in Unicode as a MAPI property."""
    stream = struct.pack("<IH", 0x223E9F78, 1)
    stream += attribute(1, 0x9006, 8, struct.pack("<I", 0x10000))
    stream += attribute(1, 0x9007, 6, struct.pack("<II", 1252, 0))
    for name, content in files:
        wide = name.encode("utf_16_le") + b"\0\0"
        wide += b"\0" * (-len(wide) % 4)
        long_name = struct.pack("<IHHII", 1, 0x1F, 0x3707, 1, len(wide)) + wide
        stream += attribute(2, 0x9002, 6, b"\0" * 14)
        stream += attribute(2, 0x8010, 1, b"FILE~1\0")
        stream += attribute(2, 0x800F, 6, content)
        stream += attribute(2, 0x9005, 6, long_name)
    return stream


def test_winmail_dat_is_unpacked() -> None:
    data = winmail(("hello.txt", b"hello\n"), ("Größe.pdf", b"%PDF"))
    tnef = leaf(
        'application/ms-tnef; name="winmail.dat"',
        b64encode(data),
        "Content-Transfer-Encoding: base64",
        'Content-Disposition: attachment; filename="winmail.dat"',
    )
    raw = multipart("mixed", PLAIN, tnef)
    mail = read(raw)
    assert [(one.part, one.filename, one.size) for one in mail.attachments] == [
        ("2-1", "hello.txt", 6),
        ("2-2", "Größe.pdf", 4),
    ]
    assert part(raw, "2-1") == b"hello\n"


def test_a_winmail_dat_that_cannot_be_unpacked_stays_an_attachment() -> None:
    broken = winmail() + attribute(2, 0x8010, 1, b"title of no attachment\0")
    mail = read(leaf("application/ms-tnef; name=winmail.dat", broken))
    assert [one.filename for one in mail.attachments] == ["winmail.dat"]
    assert mail.defects == ("winmail.dat could not be unpacked",)


def test_an_invitation_is_recognised() -> None:
    event = leaf(
        "text/calendar; method=REQUEST; charset=utf-8", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR"
    )
    mail = read(multipart("alternative", PLAIN, HTML, event))
    assert (mail.calendar, mail.text) == ("REQUEST", "Grüße")
    assert [one.type for one in mail.attachments] == ["text/calendar"]


def test_a_signed_mail_is_read_through() -> None:
    signature = leaf("application/pgp-signature; name=signature.asc", b"sig")
    mail = read(multipart("signed", multipart("mixed", PLAIN, PDF, boundary="m"), signature))
    assert mail.text == "Grüße"
    assert [one.filename for one in mail.attachments] == ["a.pdf", "signature.asc"]


@pytest.mark.parametrize("name", ["opaque-definite.eml", "opaque-chunked.eml"])
def test_an_opaque_signature_is_read_through(name: str) -> None:
    raw = (MAILS / name).read_bytes()
    mail = read(raw)
    assert (mail.text, mail.encrypted, mail.defects) == ("Grüße, signiert\n", False, ())
    assert [one.filename for one in mail.attachments] == ["a.txt"]
    assert part(raw, mail.attachments[0].part).strip() == b"attached"


def test_an_encrypted_mail_is_told_as_such() -> None:
    smime = read((MAILS / "encrypted.eml").read_bytes())
    control = leaf("application/pgp-encrypted", b"Version: 1")
    pgp = read(multipart("encrypted", control, leaf("application/octet-stream", b"-----BEGIN")))
    inline = read(b"Subject: a\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM\r\n")
    assert (smime.encrypted, smime.defects) == (True, ("encrypted (S/MIME)",))
    for mail in (pgp, inline):
        assert (mail.encrypted, mail.defects) == (True, ("encrypted (OpenPGP)",))


def test_a_part_of_a_split_mail_is_told_as_such() -> None:
    mail = read(leaf("message/partial; id=x; number=2; total=3", b"middle"))
    assert mail.defects == ("part 2 of 3 of a split mail",)


def test_a_file_name_has_no_path_and_no_turned_characters() -> None:
    def name(given: str) -> str | None:
        head = f'Content-Disposition: attachment; filename="{given}"'
        return read(leaf("application/pdf", b"", head)).attachments[0].filename

    assert name("../../etc/passwd") == "passwd"
    assert name("C:\\users\\me\\a.pdf") == "a.pdf"
    assert name("=?utf-8?Q?a=E2=80=AEfdp.exe?=") == "afdp.exe"
