"""`mailroom send` and `mailroom sent`: one line for what is wrong, the outcome for what is not."""

import asyncio
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mailroom.cli import Refusal
from mailroom.contracts import INLINE_LIMIT
from mailroom.messaging.admission import LARGEST_BODY
from mailroom_sender.commands import read_request
from tests.installation import Broker
from tests.sender.office import ERP, Office, to
from tests.sender.wire import AtEnd

Done = tuple[int, str, str]
"""Exit code, standard output and standard error."""


async def mailroom(office: Office, *arguments: str, stdin: bytes = b"") -> Done:
    def run() -> Done:
        done = subprocess.run(
            ["mailroom", *arguments],
            input=stdin,
            capture_output=True,
            env=office.environment,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return await asyncio.to_thread(run)


BAD = {
    "nothing": (b"", "standard input ''"),
    "no JSON": (b"{account: service}", "standard input '{account: service}'"),
    "not even text": (b"\xff\xfe", "standard input"),
    "no object": (b"[1]", "standard input '[1]': give one JSON object"),
    "too deep": (b"[" * 100_000, "standard input"),
    "20 MB": (b'{"text": "' + b"x" * 20_000_000 + b'"}', f"at most {LARGEST_BODY} bytes"),
    "a field that is none": (b'{"account": "a", "sbject": "x"}', "sbject 'x': no such field"),
    "a wrong type": (b'{"account": 7, "to": "anna"}', "account '7': "),
    "all that is wrong": (b'{"account": 7, "to": "anna"}', "; to 'anna': "),
    "a field missing": (b"{}", "account '': is needed"),
    "a text that is too long": (
        json.dumps({"account": "a", "text": "x" * (INLINE_LIMIT + 1)}).encode(),
        "text 'xxx",
    ),
    "a recipient that is none": (
        json.dumps({"account": "a", "to": to("anna"), "subject": "a\nb", "text": "x"}).encode(),
        "to.0.address 'anna': ",
    ),
    "a line break in the subject": (
        json.dumps(
            {"account": "a", "to": to("a@b.example"), "subject": "a\nb", "text": "x"}
        ).encode(),
        r"subject 'a\nb': leave out control characters",
    ),
    "two sources": (
        b'{"account": "a", "attachments": [{"filename": "f", "type": "a/b"}]}',
        "attachments.0",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_request_that_is_none_is_refused_by_field_value_and_remedy(what: str) -> None:
    body, words = BAD[what]
    with pytest.raises(Refusal) as refused:
        read_request(body, [])
    assert words in refused.value.message
    assert len(refused.value.message) < 2000


async def test_what_is_refused_is_told_in_one_line_and_nothing_is_published(
    office: Office,
) -> None:
    code, printed, said = await mailroom(office, "send", stdin=BAD["all that is wrong"][0])
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert said.startswith("mailroom: account '7': ")
    code, _, said = await mailroom(office, "send", stdin=BAD["20 MB"][0])
    assert (code, said.count("\n")) == (2, 1)
    assert await office.told("mail.send") == []


async def test_it_publishes_the_request_in_the_senders_name(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "Größe.pdf"
    file.write_bytes(b"%PDF")
    asked = {"account": "office", "to": to("a@example.com"), "subject": "Grüße", "text": "x"}
    code, key, said = await mailroom(
        office, "send", "--attach", str(file), stdin=json.dumps(asked).encode()
    )
    assert (code, said) == (0, "")
    (event,) = await office.told("mail.send")
    assert (event["idempotency_key"], event["subject"]) == (key.strip(), "Grüße")
    (attachment,) = event["attachments"]
    assert (attachment["filename"], attachment["type"]) == ("Größe.pdf", "application/pdf")
    assert len(attachment["object"]) == 64


async def test_a_file_is_uploaded_for_a_publisher(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "Größe.pdf"
    file.write_bytes(b"%PDF")
    upload = ("attachment", "add", "--publisher", ERP)
    code, printed, said = await mailroom(office, *upload, str(file), str(file))
    assert (code, said) == (0, "")
    one, other = (json.loads(line) for line in printed.splitlines())
    assert one == other
    assert (one["filename"], one["type"]) == ("Größe.pdf", "application/pdf")
    await office.ask(to=to("a@example.com"), attachments=[one])
    assert await office.count_requests() == 1
    missing, large = str(tmp_path / "none"), tmp_path / "film"
    with large.open("wb") as film:
        film.truncate(25_000_001)
    for arguments, why in (
        ((*upload, missing), "does not exist"),
        ((*upload, str(large)), "FILE 'film': has more than 25000000 bytes"),
        (("attachment", "add", "--publisher", "e r p", str(file)), "--publisher 'e r p': 1 to 63"),
    ):
        code, printed, said = await mailroom(office, *arguments)
        assert (code, printed, said.count("\n"), why in said) == (2, "", 1, True), said


async def test_it_waits_for_the_outcome(office: Office, broker: Broker) -> None:
    office.broker_url = broker.url("sender")
    anna = office.mailbox()
    good = json.dumps({"account": "office", "to": to(anna), "text": "x"}).encode()
    bad = json.dumps({"account": "nobody", "to": to(anna), "text": "x"}).encode()
    refused = json.dumps({"account": "office", "to": to("permfail@a.example"), "text": "x"})
    code, printed, _ = await mailroom(office, "send", "--wait", "0.5", stdin=good)
    # Not 1: who repeats it with a new key sends it twice.
    assert (code, "is the sender running?" in printed) == (3, True)
    async with office.process():
        code, printed, _ = await mailroom(office, "send", "--wait", stdin=good)
        assert code == 0
        assert f"{anna} accepted: 250 " in printed
        code, printed, _ = await mailroom(office, "send", "--wait", stdin=bad)
        assert (code, "rejected: account 'nobody': no account" in printed) == (1, True)
        code, printed, _ = await mailroom(office, "send", "--wait", stdin=refused.encode())
        assert (code, "failed" in printed, "550 5.1.1" in printed) == (1, True, True)


async def test_what_was_sent_and_what_was_rejected_is_shown(office: Office) -> None:
    anna = office.mailbox()
    async with office.sending():
        key = await office.ask(to=to(anna), subject="Offer")
        await office.tells("mail.filed")
    await office.ask(account="nobody", to=to(anna), idempotency_key="wrong-1")
    _, listed, _ = await mailroom(office, "sent", "list", "--state", "sent")
    (line,) = listed.splitlines()
    assert " filed " in line
    assert line.endswith(f"erp  office  {key}  Offer")
    _, shown, _ = await mailroom(office, "sent", "show", key, "--json")
    told = json.loads(shown)
    assert told["recipient"][0]["address"] == anna
    assert told["try"][0]["outcome"] == "accepted"
    assert told["copy"][0]["folder"] == "Sent"
    _, by_id, _ = await mailroom(office, "sent", "show", told["mail"])
    assert f"address={anna}" in by_id
    _, rejected, _ = await mailroom(office, "sent", "rejected")
    assert "erp  wrong-1  account 'nobody': no account has this name" in rejected
    code, _, said = await mailroom(office, "sent", "show", "nothing")
    assert (code, said.count("\n")) == (2, 1)
    assert "MAIL 'nothing': no such mail" in said


async def test_nothing_that_others_wrote_drives_the_terminal(office: Office) -> None:
    evil = "\x1b]0;owned\x07\u202e"
    await office.ask(idempotency_key=f"1{evil}", to=to("a@example.com"))
    key = await office.ask(idempotency_key="2\u202e", to=to("a@example.com"), subject="3\u202e")
    for arguments in (("list",), ("show", key), ("rejected",), ("rejected", "--json")):
        code, printed, _ = await mailroom(office, "sent", *arguments)
        assert (code, bool(printed)) == (0, True)
        assert not {"\x1b", "\x07", "\u202e"} & set(printed)


async def held(office: Office, *recipients: str, **asked: Any) -> str:
    """A mail of which nobody knows whether it left, though it did."""
    await office.change_account(unknown="hold")
    async with office.wire() as wire:
        await office.send_by(wire)
        wire.at_end = AtEnd.CUT_AFTER
        async with office.sending():
            key = await office.ask(to=to(*recipients), **asked)
            await office.is_in(key, "unknown")
        wire.at_end = AtEnd.PASS
    return key


async def test_of_a_mail_that_is_held_it_is_not_said_that_it_failed(office: Office) -> None:
    anna = office.mailbox()
    key = await held(office, anna, publisher="sender")
    asked = {"idempotency_key": key, "account": "office", "to": to(anna), "text": "x"}
    code, printed, _ = await mailroom(
        office, "send", "--wait", "5", stdin=json.dumps(asked).encode()
    )
    assert (code, printed.splitlines()[1].partition(" ")[0]) == (3, "unknown")


@pytest.mark.parametrize(
    ("word", "state", "mails"),
    [("again", "sent", 2), ("arrived", "sent", 1), ("dropped", "failed", 1)],
)
async def test_a_person_ends_the_hold_of_a_mail(
    office: Office, word: str, state: str, mails: int
) -> None:
    anna = office.mailbox()
    key = await held(office, anna)
    code, _, said = await mailroom(office, "sent", "release", key, word)
    assert (code, said) == (0, "")
    postfix = office.servers.postfix
    await office.set_server("smtp", (postfix.host, postfix.submissions, "implicit"))
    async with office.sending():
        await office.is_in(key, state)
        await office.gets(anna, mails)
    assert len(await office.told("mail.sent")) == (state == "sent")
    code, _, said = await mailroom(office, "sent", "release", key, word)
    assert (code, f"MAIL '{key}': is not held" in said) == (2, True)


async def test_who_was_refused_is_not_taken_for_arrived_with_those_of_whom_nobody_knew(
    office: Office,
) -> None:
    anna, later, never = office.mailbox(), "tempfail@example.com", "permfail@example.com"
    key = await held(office, anna, later, never)
    code, _, said = await mailroom(office, "sent", "release", key, "arrived")
    assert (code, said) == (0, "")
    (sent,) = await office.told("mail.sent")
    assert [each["address"] for each in sent["accepted"]] == [anna]
    assert [each["address"] for each in sent["refused"]] == [later, never]
    async with office.sending():
        row = await office.tried(key, 2)
    assert (row["state"], row["due"] is None) == ("sent", False)
    assert len(await office.mails(anna)) == 1


async def test_what_would_be_held_again_at_once_is_not_sent_again(office: Office) -> None:
    anna, day = office.mailbox(), timedelta(days=1)
    expired = await held(office, anna, expires_at=office.now() + day)
    removed = await held(office, anna)
    office.move_clock(day)
    await office.remove_account()
    for key, why in ((expired, "the mail expired at "), (removed, "its account was removed")):
        code, _, said = await mailroom(office, "sent", "release", key, "again")
        assert (code, f"WORD 'again': {why}" in said) == (2, True)
        assert (await office.row(key))["state"] == "unknown"


async def test_an_id_that_two_publishers_use_is_asked_for_by_mail_id(office: Office) -> None:
    for publisher in ("erp", "ticketing"):
        await office.ask(publisher, idempotency_key="1", to=to("a@example.com"))
    code, _, said = await mailroom(office, "sent", "show", "1")
    assert (code, "several publishers" in said) == (2, True)
