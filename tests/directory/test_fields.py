import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom_directory import fields
from mailroom_directory.fields import FieldRefused


@pytest.mark.parametrize("value", ["service", "Anna", "anna@example.com", "a", "0.b_c-d+e"])
def test_a_name_may_look_like_a_word_or_an_address(value: str) -> None:
    assert fields.name(value) == value


@pytest.mark.parametrize("value", ["", " ", "-x", "a b", "a\n", "ü", "a" * 64, "a/b", "a\0"])
def test_a_name_that_would_be_awkward_on_a_command_line_is_refused(value: str) -> None:
    with pytest.raises(FieldRefused, match="letters, digits"):
        fields.name(value)


def test_a_name_is_never_taken_for_an_id() -> None:
    with pytest.raises(FieldRefused, match="looks like an id"):
        fields.name("6f1c0b1e-3c55-4b33-9b0e-0d5d3f0f6a11")


@pytest.mark.parametrize(
    "value", ["service@example.com", "a.b+c@x.y-z.de", "o'hara@example.com", "root@localhost"]
)
def test_an_address_of_the_wire_is_taken(value: str) -> None:
    assert fields.address(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "service",
        "@example.com",
        "a@",
        "a@b@c.de",
        "a..b@example.com",
        ".a@example.com",
        "a b@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\n",
        "a@-x.de",
        "a@x..de",
        '"a"@example.com',
        "a@[127.0.0.1]",
        "Anna <anna@example.com>",
        "a" * 65 + "@example.com",
        "a@" + ".".join(["b" * 60] * 5),
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(FieldRefused, match="is no address"):
        fields.address(value)


def test_a_domain_outside_ascii_is_told_to_come_in_its_xn_form() -> None:
    with pytest.raises(FieldRefused, match="xn--"):
        fields.address("info@müller.de")


@given(st.text())
def test_no_text_reaches_a_line_with_a_control_character(value: str) -> None:
    try:
        taken = fields.line(value, "--display-name")
    except FieldRefused:
        return
    assert not any(character < " " or character == "\x7f" for character in taken)
