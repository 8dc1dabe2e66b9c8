"""Names of folders, values and UID sets on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.imap import ControlCharacter
from mailroom.imap.names import decode_folder, encode_folder, quoted, quoted_folder, uid_set


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("INBOX", "INBOX"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("Q&A", "Q&-A"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 section 5.1.3
        ("😀", "&2D3eAA-"),
    ],
)
def test_folder_names_are_written_in_modified_utf_7(name: str, coded: str) -> None:
    assert encode_folder(name) == coded
    assert decode_folder(coded) == name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_folder_name_comes_back_as_it_was(name: str) -> None:
    assert encode_folder(name).isascii()
    assert decode_folder(encode_folder(name)) == name


@given(st.text())
def test_a_name_in_no_known_coding_is_kept(coded: str) -> None:
    decode_folder(coded)


def test_a_run_that_is_no_utf_7_stays_as_it_came() -> None:
    assert decode_folder("Sent &A- Items") == "Sent &A- Items"


@pytest.mark.parametrize("value", ["a\r\nA1 DELETE INBOX", "a\nb", "a\0b", "a\tb", "a\x7fb"])
def test_control_characters_are_refused(value: str) -> None:
    with pytest.raises(ControlCharacter, match=r"folder .*: remove its control characters"):
        quoted_folder(value)


def test_a_refused_password_is_not_shown() -> None:
    with pytest.raises(ControlCharacter) as refused:
        quoted("password", "secret\r\n")
    assert "secret" not in str(refused.value)


def test_quotes_and_backslashes_are_escaped() -> None:
    assert quoted("user", 'a"b\\c') == '"a\\"b\\\\c"'


@pytest.mark.parametrize(
    ("uids", "text"), [([7], "7"), ([3, 1, 2, 7], "1:3,7"), ([1, 3, 5], "1,3,5"), ([1, 2], "1:2")]
)
def test_neighbouring_uids_are_written_as_ranges(uids: list[int], text: str) -> None:
    assert uid_set(uids) == text
