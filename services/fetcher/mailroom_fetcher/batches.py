"""Which bodies to ask for in one command. Pure rules over what the server listed."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from mailroom.imap.listing import BATCH_BYTES, BODIES, Listed


@dataclass(frozen=True)
class Batch:
    """Mails to fetch with one command, or one mail `in_pieces`."""

    mails: tuple[Listed, ...]
    in_pieces: bool = False

    @property
    def size(self) -> int:
        """Bytes, as the server listed them."""
        return sum(mail.size for mail in self.mails)

    @property
    def uids(self) -> list[int]:
        """In the order of the mails."""
        return [mail.uid for mail in self.mails]


def batches(mails: Iterable[Listed], alone: AbstractSet[int] = frozenset()) -> Iterator[Batch]:
    """Split, in order: at most BODIES mails and BATCH_BYTES a batch.

    A larger mail, and each whose UID is in `alone`, is a batch of its own, in pieces.
    """
    current: list[Listed] = []
    size = 0
    for mail in mails:
        single = mail.size > BATCH_BYTES or mail.uid in alone
        full = len(current) == BODIES or size + mail.size > BATCH_BYTES
        if current and (single or full):
            yield Batch(tuple(current))
            current, size = [], 0
        if single:
            yield Batch((mail,), in_pieces=True)
        else:
            current.append(mail)
            size += mail.size
    if current:
        yield Batch(tuple(current))


def one_by_one(batch: Batch) -> list[Batch]:
    """Each mail of a batch alone, in pieces: what is wrong with one shall not stop the others."""
    return [Batch((mail,), in_pieces=True) for mail in batch.mails]


def newest_first(uids: Sequence[int], size: int) -> Iterator[list[int]]:
    """Ascending UIDs in groups of `size` at most, the highest group first, each ascending."""
    for end in range(len(uids), 0, -size):
        yield list(uids[max(0, end - size) : end])
