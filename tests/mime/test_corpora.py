"""Strangers' mails, where `MAILROOM_CORPORA` names their folder: the shares that must be right."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailroom.mime import Mail, read

pytestmark = pytest.mark.skipif(
    "MAILROOM_CORPORA" not in os.environ, reason="MAILROOM_CORPORA names no folder of mails"
)
CORPORA = Path(os.environ.get("MAILROOM_CORPORA", "."))


def mails(folder: str) -> Iterator[tuple[str, Mail]]:
    for path in sorted((CORPORA / folder).rglob("*")):
        if path.suffix in {".eml", ".txt"}:
            yield path.relative_to(CORPORA / folder).as_posix(), read(path.read_bytes())


@pytest.fixture(scope="module")
def bounces() -> list[tuple[str, Mail, list[dict[str, Any]]]]:
    expected = json.loads((CORPORA / "bounces" / "expected.json").read_text())
    return [(name, mail, expected[name]) for name, mail in mails("bounces") if name in expected]


def share(right: list[bool]) -> float:
    assert right
    return sum(right) / len(right)


def test_reports_are_recognised(bounces: list[tuple[str, Mail, list[dict[str, Any]]]]) -> None:
    assert share([mail.auto == "report" for _, mail, _ in bounces]) >= 0.98


def test_reports_tell_the_right_number_of_recipients(
    bounces: list[tuple[str, Mail, list[dict[str, Any]]]],
) -> None:
    found = [len(mail.report.recipients) if mail.report else 0 for _, mail, _ in bounces]
    assert share([n == len(told) for n, (_, _, told) in zip(found, bounces, strict=True)]) >= 0.95


def test_reports_tell_hard_from_soft(
    bounces: list[tuple[str, Mail, list[dict[str, Any]]]],
) -> None:
    right = []
    for _, mail, told in bounces:
        ours = sorted(one.hard for one in mail.report.recipients) if mail.report else []
        right.append(ours == sorted(one["hardbounce"] for one in told))
    assert share(right) >= 0.90


def test_reports_tell_the_mail_they_concern(
    bounces: list[tuple[str, Mail, list[dict[str, Any]]]],
) -> None:
    found = [bool(mail.report and mail.report.message_id) for _, mail, _ in bounces]
    assert share(found) >= 0.80


def test_every_awkward_mail_is_read() -> None:
    read_mails = [*mails("mail-gem"), *mails("mimekit")]
    assert len(read_mails) > 100
    failed = [name for name, mail in read_mails if any("failed" in d for d in mail.defects)]
    assert not failed


@pytest.mark.parametrize(
    ("name", "subject", "sender"),
    [
        ("mail-gem/plain_emails/raw_email.eml", "NOTE: 한국말로 하는 것", "Jamis Buck"),
        ("mail-gem/multi_charset/japanese.eml", "まみむめも", "Mikel Lindsaar"),
        ("mail-gem/error_emails/invalid_subject_characters.eml",
         "Formação FrenetikPolis: Mega Campanha Final Verão | Cursos de Setembro",
         "Formação Frenetikpolis"),
        ("mail-gem/rfc6532/utf8_headers.eml", "Säying Hello", "Jöhn Doe"),
        ("mimekit/messages/japanese.txt", "日本語メールテスト (testing Japanese emails)",
         "Atsushi Eno"),
    ],
)  # fmt: skip
def test_names_and_subjects_read_as_they_were_meant(name: str, subject: str, sender: str) -> None:
    mail = read((CORPORA / name).read_bytes())
    assert (mail.subject, mail.from_[0].name) == (subject, sender)


@pytest.mark.parametrize("stem", ["one-file", "two-files", "long-filename", "panic", "attachments"])
def test_the_files_of_a_winmail_dat_have_their_names(stem: str) -> None:
    folder = CORPORA / "mimekit" / "tnef"
    head = b"Content-Type: application/ms-tnef; name=winmail.dat\r\n\r\n"
    mail = read(head + (folder / f"{stem}.tnef").read_bytes())
    bodies = {"message.rtf", "message.html", "message.txt"}
    expected = {path.name for path in (folder / stem).iterdir()} - bodies
    assert {one.filename for one in mail.attachments} == expected
