"""No mail costs more than 2 s of CPU and 300 MB, whatever it is made of."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailroom.mime import read
from mailroom.mime.smime import MOST_CHUNKS
from tests.mime.bombs import BOMBS, constructed
from tests.servers import once

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def costs(run_folder: Path) -> dict[str, dict[str, Any]]:
    """All bombs in one process of their own, so that its memory is theirs; once a run."""
    told = run_folder / "bombs"
    with once(run_folder, "bombs") as first:
        if first:
            told.write_text(_exploded())
    return {cost["name"]: cost for cost in map(json.loads, told.read_text().splitlines())}


def _exploded() -> str:
    command = [sys.executable, "-m", "tests.mime.bombs"]
    done = subprocess.run(
        command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_quickly_and_without_eating_memory(
    bomb: str, costs: dict[str, dict[str, Any]]
) -> None:
    cost = costs[bomb]
    assert cost["seconds"] < 2
    assert cost["MB"] < 300
    assert not [one for one in cost["defects"] if one.startswith("reading failed")]


@pytest.mark.parametrize(
    ("bomb", "defect"),
    [
        ("parts", "parts cut at 1000"),
        ("nesting", "parts nested deeper than 30"),
        ("headers", "header fields cut at 5000"),
        ("a long header", "header cut at 1 MB"),
        ("a large text", "text cut at 5000000 bytes"),
        ("uuencoded files", "uuencoded files cut at 100"),
        ("tnef loops", "winmail.dat could not be unpacked"),
    ],
)
def test_what_was_left_out_is_told(
    bomb: str, defect: str, costs: dict[str, dict[str, Any]]
) -> None:
    assert defect in costs[bomb]["defects"]


@pytest.mark.parametrize(("chunks", "shown"), [(MOST_CHUNKS - 1, True), (MOST_CHUNKS + 1, False)])
def test_a_signed_entity_of_too_many_chunks_stays_an_attachment(
    chunks: int, *, shown: bool
) -> None:
    entity = b"Content-Type: text/plain\r\n\r\n"
    few, each = entity, b"\x04\x01a"
    mail = read(constructed(each, chunks).replace(each, b"\x04" + bytes([len(few)]) + few, 1))
    assert bool(mail.text.strip()) == shown
    assert [one.type for one in mail.attachments] == ([] if shown else ["application/pkcs7-mime"])
