"""Reading a broken mail never fails, and what it says is always fit to be stored and shown."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.mime import Mail, fingerprint, from_json, part, read, to_json
from tests.mime.mutations import mutated, seeds

CORPORA = [Path(os.environ["MAILROOM_CORPORA"])] if "MAILROOM_CORPORA" in os.environ else []


def shown(mail: Mail) -> list[str]:
    boxes = (*mail.from_, *mail.sender, *mail.reply_to, *mail.to, *mail.cc)
    return [
        mail.subject,
        mail.message_id or "",
        mail.return_path or "",
        *mail.in_reply_to,
        *mail.references,
        *mail.delivered_to,
        *(value for box in boxes for value in (box.name, box.address)),
        *(value for pair in (*mail.headers, *mail.verdicts) for value in pair),
        *(one.filename or "" for one in mail.attachments),
        *(one.content_id or "" for one in mail.attachments),
        *mail.defects,
    ]


def controls(value: str) -> bool:
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in value)


def check(raw: bytes) -> None:
    mail = read(raw)
    assert not [one for one in mail.defects if one.startswith("reading failed")], mail.defects
    stored = to_json(mail)  # no lone surrogate
    assert b"\\u0000" not in stored
    assert from_json(stored) == mail
    assert not [value for value in shown(mail) if controls(value)]
    for one in mail.attachments:
        assert len(part(raw, one.part)) == one.size
    fingerprint(mail)


@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_a_mutated_mail_is_read_with_defects_at_worst(count: int) -> None:
    started = time.process_time()
    for raw in mutated(seeds(*CORPORA), count, seed=20260102):
        try:
            check(raw)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{raw!r}") from fault
    assert time.process_time() - started < count * 0.1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(raw=st.binary(max_size=2_000))
def test_any_bytes_are_read(raw: bytes) -> None:
    check(raw)
