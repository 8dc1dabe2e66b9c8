import pytest

from mailroom.mime.addresses import parse_addresses


@pytest.mark.parametrize(
    ("raw", "mailboxes"),
    [
        ("a@b.example", [("", "a@b.example")]),
        ("Joe <a@b.example>", [("Joe", "a@b.example")]),
        ('"Doe, Jane" <j@x>, Bob <b@x>', [("Doe, Jane", "j@x"), ("Bob", "b@x")]),
        ("Doe, Jane <j@x.example>, k@z", [("Doe, Jane", "j@x.example"), ("", "k@z")]),
        ("=?utf-8?Q?M=C3=BCller=2C_Hans?= <h@m.example>", [("Müller, Hans", "h@m.example")]),
        ('"=?utf-8?B?w6Q=?=" <a@b>', [("ä", "a@b")]),
        ("=?utf-8?Q?Name_<a@b>?=", [("Name", "a@b")]),
        ("a@b (Hans (der) Kleine)", [("Hans (der) Kleine", "a@b")]),
        ("Group:Ed <joe@w>,John <j@o>;, x@y", [("Ed", "joe@w"), ("John", "j@o"), ("", "x@y")]),
        ("Undisclosed recipients:;", []),
        ("Hidden recipients  :(nobody(that I know))  ;", []),
        ("<@a,@b:joe@x.example>", [("", "joe@x.example")]),
        ('"joe smith"@x.example', [("", '"joe smith"@x.example')]),
        ('<"joe, smith"@x.example>', [("", '"joe, smith"@x.example')]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test>", [("Pete", "pete@silly.test")]),
        ("jdoe@test   . example", [("", "jdoe@test.example")]),
        ("<jdoe@machine(comment).  example>", [("", "jdoe@machine.example")]),
        ("<Undisclosed-Recipient:@relay.example>, undisclosed-recipients", []),
        ("<<a@b>>", [("", "a@b")]),
        ("<a@b", [("", "a@b")]),
        ("mailto:a@b", [("", "a@b")]),
        ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
        ('"Name" a@b', [("Name", "a@b")]),
        ('"a@b" <a@b>', [("a@b", "a@b")]),
        ('"\\"Quote\\" me" <q@x>', [('"Quote" me', "q@x")]),
        ('"never closed <a@b>', [("never closed", "a@b")]),
        ("user@[IPv6:2001::1]", [("", "user@[IPv6:2001::1]")]),
        ("MAILER-DAEMON", [("", "MAILER-DAEMON")]),
        ("Mail System <MAILER-DAEMON>", [("Mail System", "MAILER-DAEMON")]),
        ("prvs=12=user@x.example", [("", "prvs=12=user@x.example")]),
        ("<>", []),
        ("", []),
    ],
)  # fmt: skip
def test_an_address_list_is_read_as_people_and_programs_write_it(
    raw: str, mailboxes: list[tuple[str, str]]
) -> None:
    assert [(box.name, box.address) for box in parse_addresses([raw])] == mailboxes


def test_a_raw_utf8_name_keeps_its_bytes_that_look_like_blanks() -> None:
    raw = "à Ã … <a@b>".encode().decode("latin_1")  # their bytes A0 and 85 are blanks to str
    assert parse_addresses([raw])[0].name == "à Ã …"


def test_a_comma_inside_of_an_encoded_name_makes_no_second_recipient() -> None:
    raw = "=?utf-8?Q?a=2C_evil=40x.example,?= <a@b>"
    assert [box.address for box in parse_addresses([raw])] == ["a@b"]


def test_several_fields_make_one_list() -> None:
    assert [box.address for box in parse_addresses(["a@b", "c@d, e@f"])] == ["a@b", "c@d", "e@f"]
