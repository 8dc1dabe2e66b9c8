"""A folder for servers of one test: those that a test stops or kills are not shared."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import local


@pytest.fixture
def folder() -> Iterator[Path]:
    """New and empty; short enough for sockets, and open to the servers' users."""
    new = Path(tempfile.mkdtemp(prefix="mailroom-test-"))
    yield new
    local.remove(new)
