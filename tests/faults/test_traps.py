"""A trap's moment comes at the same byte, however the words are cut into pieces."""

import pytest

from tests.faults.traps import Moment, Waiting, client, server


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_moment_comes_at_its_byte_in_pieces_of_any_size(size: int) -> None:
    text = b"a FETCH, no: * 1 FETCH (BODY[] {5}\r\nhello)\r\n"
    waiting = Waiting(Moment([server(b" FETCH ("), server(b"}\r\n")], then=2))
    passed = b""
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        at = waiting.comes_at("server", piece)
        passed += piece[:at]
        if at is not None:
            break
    assert passed == b"a FETCH, no: * 1 FETCH (BODY[] {5}\r\nhe"


def test_what_the_other_side_says_is_not_taken_for_it() -> None:
    waiting = Waiting(Moment([client(b"DATA\r\n"), server(b"354 ")]))
    assert waiting.comes_at("server", b"354 not yet") is None
    assert waiting.comes_at("client", b"MAIL\r\nDATA\r\n") is None
    assert waiting.comes_at("client", b"354 ") is None
    assert waiting.comes_at("server", b"354 go on") == 4


def test_words_of_which_nothing_is_asked_are_any() -> None:
    waiting = Waiting(Moment([server()], then=3))
    assert waiting.comes_at("client", b"1234567") is None
    assert waiting.comes_at("server", b"12") is None
    assert waiting.comes_at("server", b"34567") == 1


def test_words_that_are_said_in_one_piece_are_all_found_in_it() -> None:
    waiting = Waiting(Moment([client(b"BEGIN"), client(b"COMMIT;")]))
    assert waiting.comes_at("client", b"BEGIN; COMMIT; BEGIN") == 14
