"""What every contract keeps: its key, its publishers, its patience with what it does not know."""

from uuid import uuid4

import pytest
from pydantic import ValidationError

from mailroom.contracts import ANYONE, CONTRACTS, AccountFetch, MailSend


def test_only_commands_to_the_sender_may_come_from_anyone() -> None:
    open_to_all = {name for name, contract in CONTRACTS.items() if ANYONE in contract.publishers}
    assert open_to_all == {"mail.send", "mail.cancel"}


def test_commands_are_imperatives_and_facts_are_participles() -> None:
    commands = {name for name, contract in CONTRACTS.items() if contract.is_command}
    assert commands == {"mail.send", "mail.cancel", "mail.fetch", "account.fetch"}
    facts = CONTRACTS.keys() - commands
    assert all(name.endswith(("ed", "sent")) for name in facts)


def test_a_field_that_is_not_known_is_ignored() -> None:
    account = uuid4()
    event = AccountFetch.model_validate({"account": str(account), "colour": "blue"})
    assert event == AccountFetch(account=account)


def test_an_event_is_not_changed_after_it_was_made() -> None:
    event = AccountFetch(account=uuid4())
    with pytest.raises(ValidationError, match="frozen"):
        event.account = uuid4()  # type: ignore[misc]


@pytest.mark.parametrize("tag", ["[#1-k7f3q]\r\nBcc: x@y", "[# 1]", "#1-k7f3q", "[#ü]", "[]"])
def test_a_tag_that_would_not_survive_a_subject_is_refused(tag: str) -> None:
    with pytest.raises(ValidationError, match="tag"):
        MailSend(idempotency_key="k", account="a", tag=tag)


def test_an_attachment_has_exactly_one_source() -> None:
    both = {"filename": "f", "type": "text/plain", "object": "0" * 64, "inline": "Zg=="}
    for source in (both, {"filename": "f", "type": "text/plain"}):
        with pytest.raises(ValidationError, match="exactly one"):
            MailSend.model_validate(
                {"idempotency_key": "k", "account": "a", "attachments": [source]}
            )
