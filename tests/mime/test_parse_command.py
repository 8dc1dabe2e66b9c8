import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailroom.parse_command import parse

MEMBERS = [
    "from", "to", "cc", "reply_to", "subject", "date", "message_id", "in_reply_to", "references",
    "text", "html", "attachments", "auto", "report", "defects",
]  # fmt: skip


@pytest.fixture
def mails(tmp_path: Path) -> list[str]:
    for number in (1, 2):
        raw = f"From: Jö <a@b>\r\nSubject: {number}\r\nDate: Fri, 2 Jan 2026 03:04:05 +0100\r\n\r\n"
        (tmp_path / f"{number}.eml").write_bytes(raw.encode())
    return [str(path) for path in sorted(tmp_path.iterdir())]


def test_each_file_is_one_line_of_json_in_order(mails: list[str]) -> None:
    done = CliRunner().invoke(parse, ["--json", *reversed(mails)])
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["subject"] for one in told] == ["2", "1"]
    assert list(told[0]) == MEMBERS
    assert told[0]["from"] == [{"name": "Jö", "address": "a@b"}]
    assert told[0]["date"] == "2026-01-02T03:04:05+01:00"


def test_a_file_that_cannot_be_opened_ends_it_with_one_line(mails: list[str]) -> None:
    done = CliRunner().invoke(parse, ["--json", mails[0], "/no/such/file"])
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.splitlines() == [
        "mailroom: file '/no/such/file': No such file or directory; name a file that can be read"
    ]
