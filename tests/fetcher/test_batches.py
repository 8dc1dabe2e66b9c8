"""Which bodies are asked for in one command."""

from hypothesis import given
from hypothesis import strategies as st

from mailroom.imap import BATCH_BYTES, BODIES, Listed
from mailroom_fetcher.batches import batches, newest_first, one_by_one


def mails(*sizes: int) -> list[Listed]:
    return [Listed(uid, size, None, ()) for uid, size in enumerate(sizes, start=1)]


@given(st.lists(st.integers(0, 3 * BATCH_BYTES)), st.frozensets(st.integers(1, 20)))
def test_every_mail_is_in_one_batch_that_is_small_enough(
    sizes: list[int], alone: frozenset[int]
) -> None:
    made = list(batches(mails(*sizes), alone))
    assert [mail for batch in made for mail in batch.mails] == mails(*sizes)
    for batch in made:
        assert len(batch.mails) <= BODIES
        assert batch.size <= BATCH_BYTES or batch.in_pieces
        assert len(batch.mails) == 1 or not batch.in_pieces
        assert batch.in_pieces or not alone & set(batch.uids)


def test_small_mails_fill_a_batch() -> None:
    assert [len(batch.mails) for batch in batches(mails(*[100] * (BODIES + 1)))] == [BODIES, 1]


def test_bytes_fill_a_batch_too() -> None:
    half = BATCH_BYTES // 2
    assert [batch.uids for batch in batches(mails(half, half, 1))] == [[1, 2], [3]]


def test_a_large_mail_comes_alone_and_in_pieces() -> None:
    made = list(batches(mails(10, BATCH_BYTES + 1, 10)))
    assert [(batch.uids, batch.in_pieces) for batch in made] == [
        ([1], False),
        ([2], True),
        ([3], False),
    ]


def test_a_suspect_comes_alone_whatever_its_size() -> None:
    made = list(batches(mails(10, 10, 10), alone={2}))
    assert [(batch.uids, batch.in_pieces) for batch in made] == [
        ([1], False),
        ([2], True),
        ([3], False),
    ]


def test_a_refused_batch_is_asked_for_one_by_one() -> None:
    (whole,) = batches(mails(1, 2))
    assert [(batch.uids, batch.in_pieces) for batch in one_by_one(whole)] == [
        ([1], True),
        ([2], True),
    ]


def test_holes_are_filled_from_the_newest() -> None:
    assert list(newest_first([1, 2, 3, 4, 5], 2)) == [[4, 5], [2, 3], [1]]
