"""Which addresses can be sent to, and what is said of those that cannot."""

import pytest

from mailroom_sender.addresses import AddressWrong, sendable


@pytest.mark.parametrize(
    "address",
    [
        "anna@example.com",
        "anna.o'neil+tag=1@sub.example.com",
        "root@localhost",
        "-fanna@example.com",  # no option of anything: it is said by SMTP, and to no command
        "x" * 64 + "@example.com",
    ],
)
def test_an_address_is_left_as_it_is(address: str) -> None:
    assert sendable(address) == address


def test_a_domain_with_umlauts_becomes_ascii_and_keeps_its_eszett() -> None:
    assert sendable("info@müller.example") == "info@xn--mller-kva.example"
    # IDNA 2003, Python's own codec, would write to strasse.example: another domain.
    assert sendable("info@straße.example") == "info@xn--strae-oqa.example"


@pytest.mark.parametrize("letter", ["\u0430", "\u03b1", "\u0251", "\u0101"])
def test_a_letter_that_looks_like_another_is_another_domain(letter: str) -> None:
    """Homographs (RFC 5890, 4.4): Cyrillic and Greek a, script a, and one with a macron."""
    written = sendable(f"info@p{letter}ypal.example")
    assert written.startswith("info@xn--")
    assert written != sendable("info@paypal.example")


@pytest.mark.parametrize("letter", ["\uff41", "A", "\U0001d41a"])
def test_another_form_of_the_same_letter_is_the_same_domain(letter: str) -> None:
    """UTS 46 maps full width, capital and mathematical letters."""
    assert sendable(f"info@p{letter}ypal.example").lower() == "info@paypal.example"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "anna",
        "@example.com",
        "anna@",
        "Anna <anna@example.com>",
        "<anna@example.com>",
        "@relay.example:anna@example.com",
        "anna@relay.example@example.com",
        "anna%relay.example:25@ex ample.com",
        '"anna b"@example.com',
        "anna..b@example.com",
        ".anna@example.com",
        "jürgen@example.com",
        "anna@[127.0.0.1]",
        "anna@example.com.",
        "anna@-example.com",
        "anna@foo_bar.example",
        "anna@exa mple.com",
        "anna@example.com\r\nRCPT TO:<eve@example.com>",
        "anna@example.com\n",
        "anna\0@example.com",
        "anna@\u2028.example",
        "anna@" + "a" * 64 + ".example",
        "x" * 65 + "@example.com",
        "anna@" + "ü" * 300 + ".example",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AddressWrong):
        sendable(address)
