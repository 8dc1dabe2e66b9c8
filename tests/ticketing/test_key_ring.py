"""The key ring's file: what is read, and what is refused."""

from pathlib import Path

import pytest

from mailroom_ticketing.key_ring import TagKeysRefused, read_ring
from mailroom_ticketing.tags import Ring

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def test_a_ring_is_read_newest_first_with_comments(tmp_path: Path) -> None:
    file = tmp_path / "ring"
    file.write_text(f"# rotated in May\n2025b:{NEW.hex()}\n\n2025a:{OLD.hex()}  # old\n")
    assert read_ring(file, "acme") == Ring("acme", (NEW, OLD))


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("", "holds no key"),
        ("2025a:zz\n", "line 1"),
        (f"a:{NEW.hex()}\nb:abcd\n", "line 2"),
        (NEW.hex(), "line 1"),
        ("schlüssel", "cannot be read"),
    ],
)
def test_a_ring_that_cannot_be_used_is_refused(tmp_path: Path, content: str, remedy: str) -> None:
    file = tmp_path / "ring"
    file.write_text(content)
    with pytest.raises(TagKeysRefused, match=remedy):
        read_ring(file, "acme")


def test_a_ring_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TagKeysRefused, match="cannot be read"):
        read_ring(tmp_path / "none", "acme")
