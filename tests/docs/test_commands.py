"""Every command of every page works, in the order of the page."""

from tests.docs.pages import blocks
from tests.docs.terminal import Terminal


def test_whoever_follows_the_guides_operates_mailroom(reader: Terminal) -> None:
    for block in blocks("docs/operations.md", "sh"):
        reader.follow(block)
