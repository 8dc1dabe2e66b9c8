"""What servers answer, read: the usual, the allowed, and the broken."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mailroom.imap import responses

LINE = b'3 FETCH (UID 7 RFC822.SIZE 120 INTERNALDATE "17-Jul-1996 02:44:25 -0700" FLAGS (\\Seen a))'


def test_a_listing_line_is_read() -> None:
    ((text, literal),) = responses.fetched([LINE, b"Fetch completed."])
    assert (responses.number(text, "UID"), responses.number(text, "RFC822.SIZE")) == (7, 120)
    assert responses.flags(text) == ("\\Seen", "a")
    assert responses.internal_date(text) == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert literal is None


def test_recent_is_no_flag_of_the_mail() -> None:
    assert responses.flags(b"1 FETCH (FLAGS (\\Recent \\Flagged))") == ("\\Flagged",)


def test_a_keyword_that_looks_like_an_item_is_not_taken_for_it() -> None:
    line = b"1 FETCH (FLAGS (UID 9 RFC822.SIZE 1) UID 7 RFC822.SIZE 120)"
    assert (responses.number(line, "UID"), responses.number(line, "RFC822.SIZE")) == (7, 120)


def test_a_date_that_is_none_is_left_out() -> None:
    for date in ("00-Jan-0000 00:00:00 +0000", "31-Feb-2024 00:00:00 +0000", "yesterday", ""):
        assert responses.internal_date(f'1 FETCH (INTERNALDATE "{date}")'.encode()) is None


def test_a_day_padded_by_a_blank_is_read() -> None:
    line = b'1 FETCH (INTERNALDATE " 7-Jul-1996 02:44:25 +0000")'
    assert responses.internal_date(line) == datetime(1996, 7, 7, 2, 44, 25, tzinfo=UTC)


def test_a_body_comes_as_literal_or_quoted_or_not_at_all() -> None:
    assert responses.body(b"1 FETCH (UID 1 BODY[] {3} )", b"a)b") == b"a)b"
    assert responses.body(b"1 FETCH (UID 1 BODY[]<0> {0})", b"") == b""
    assert responses.body(b'1 FETCH (UID 1 BODY[] "a\\"(b")', None) == b'a"(b'
    assert responses.body(b'1 FETCH (UID 1 BODY[]<5> "")', None) == b""
    assert responses.body(b"1 FETCH (UID 1 BODY[] NIL)", None) is None
    assert responses.body(b"1 FETCH (UID 1 FLAGS (\\Seen))", None) is None


def test_items_may_follow_the_body() -> None:
    lines: list[bytes | bytearray] = [
        b"1 FETCH (BODY[] {3}",
        bytearray(b"abc"),
        b" UID 7)",
        b"2 FETCH (UID 8 BODY[] NIL)",
    ]
    found = [(responses.number(text, "UID"), body) for text, body in responses.fetched(lines)]
    assert found == [(7, b"abc"), (8, None)]


def test_search_answers_on_several_lines_count_together() -> None:
    lines = [b"SEARCH 3 1", b"SEARCH 2", b"SEARCH", b"OK done"]
    assert responses.searched(lines) == [1, 2, 3]


def test_an_empty_search_answer_finds_nothing() -> None:
    assert responses.searched([b"SEARCH", b"4 messages were not found"]) == []


def test_folder_names_come_quoted_bare_or_as_literal() -> None:
    lines: list[bytes | bytearray] = [
        b'LIST (\\HasNoChildren) "/" "with \\"quotes\\" and * stars"',
        b"LIST (\\Sent) NIL Sent",
        b'LIST () "." {5}',
        bytearray(b"a b c"),
        b"",
        b"List completed",
    ]
    assert list(responses.listed(lines)) == [
        (frozenset({"\\hasnochildren"}), b'with "quotes" and * stars'),
        (frozenset({"\\sent"}), b"Sent"),
        (frozenset(), b"a b c"),
    ]


def test_the_state_of_an_opened_folder_is_read() -> None:
    lines = [b"OK [UIDVALIDITY 3857529045] UIDs valid", b"OK [UIDNEXT 4392] next", b"3 EXISTS"]
    assert responses.codes(lines) == {"UIDVALIDITY": 3857529045, "UIDNEXT": 4392}


def test_append_tells_uidvalidity_and_uid_where_it_can() -> None:
    assert responses.append_uid([b"[APPENDUID 38505 3955] done"]) == (38505, 3955)
    assert responses.append_uid([b"APPEND completed"]) is None


@given(st.lists(st.binary() | st.binary().map(bytearray)))
def test_no_answer_makes_reading_raise(lines: list[bytes | bytearray]) -> None:
    for text, literal in responses.fetched([LINE, *lines]):
        responses.number(text, "UID")
        responses.flags(text)
        responses.internal_date(text)
        responses.body(text, literal)
    responses.searched(lines)
    list(responses.listed(lines))
    responses.codes(lines)
    responses.append_uid(lines)
