"""From a request to the mail that leaves: ids that stay, an envelope, and nothing that injects."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mailroom import mime
from mailroom.contracts import MailSend
from mailroom_sender import drafting
from mailroom_sender.drafting import content_hash, draft, envelope, mail_id, message_id, references
from mailroom_sender.validation import Known, faults

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OFFICE = mime.Address("Büro", "office@example.com")
OBJECT = "ab" * 32


def asked(**fields: object) -> MailSend:
    return MailSend.model_validate({"idempotency_key": "1", "account": "office"} | fields)


def test_the_same_publisher_and_key_give_the_same_ids() -> None:
    mail = mail_id("erp", "order-1")
    assert mail == mail_id("erp", "order-1")
    assert mail not in {mail_id("erp", "order-2"), mail_id("shop", "order-1")}
    # No key can be written such that it is another publisher's.
    assert mail_id("a", "b\nc") != mail_id("a\nb", "c")
    assert message_id(mail, "Office@Example.COM") == f"{mail}@example.com"


def test_ids_are_what_they_were_in_earlier_versions() -> None:
    """They are how a mail that left before an upgrade is known after it."""
    assert str(mail_id("erp", "order-1")) == "2b773636-262d-50ef-9783-66c93c8da2d1"


class Grown(MailSend):
    """The contract of a later version."""

    colour: str | None = None


def test_a_field_added_to_the_contract_does_not_change_what_a_request_says() -> None:
    again = Grown.model_validate(asked(text="a").model_dump())
    assert content_hash(again) == content_hash(asked(text="a"))
    assert content_hash(asked(text="a")) == content_hash(asked(text="a", cc=[], auto="none"))
    assert content_hash(asked(text="a")) != content_hash(asked(text="b"))


def test_the_envelope_has_each_recipient_once() -> None:
    request = asked(
        to=[{"address": "a@example.com"}, {"address": "b@example.com"}],
        cc=[{"address": "A@EXAMPLE.com"}],
        bcc=[{"address": "c@example.com"}, {"address": "b@example.com"}],
    )
    assert [target.address for target in envelope(request)] == [
        "a@example.com",
        "b@example.com",
        "c@example.com",
    ]


def test_references_end_with_the_mail_that_is_answered_and_stay_few() -> None:
    many = [f"{number}@example.com" for number in range(50)]
    chain = references(asked(answers={"references": many}), "49@example.com")
    assert (len(chain), chain[0], chain[-1]) == (20, "0@example.com", "49@example.com")
    assert references(asked(), None) == ()


@pytest.mark.parametrize(
    ("auto", "said"),
    [("none", None), ("replied", "auto-replied"), ("generated", "auto-generated")],
)
def test_a_mail_that_nobody_wrote_says_so(auto: str, said: str | None) -> None:
    """RFC 3834 section 5: so that no other machine answers it."""
    request = asked(text="a", to=[{"address": "a@example.com"}], auto=auto)
    made = draft(request, mail_id("erp", "1"), OFFICE, NOON, [], None)
    assert made.auto_submitted == said
    assert (f"Auto-Submitted: {said}".encode() in mime.compose(made)) == (said is not None)


# Without what is refused anyhow, so that most examples get as far as composing.
ANYTHING = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60)
ADDRESS = st.one_of(
    st.from_regex(r"[a-z!#%&'*+/=?^_`{|}~-]{1,20}@[a-zäöüß]{1,20}\.example", fullmatch=True),
    st.from_regex(r"[!-~]{1,9}@[a-zA-Z0-9.-]{1,9}", fullmatch=True),
)
SOMEBODY = st.fixed_dictionaries({"name": ANYTHING, "address": ADDRESS})
REQUEST = {
    "to": st.lists(SOMEBODY, min_size=1, max_size=2),
    "reply_to": st.lists(SOMEBODY, max_size=1),
    "subject": ANYTHING,
    "text": st.text(min_size=1),
    "html": st.none() | st.text(),
    "answers": st.fixed_dictionaries(
        {"message_id": ANYTHING, "references": st.lists(ANYTHING, max_size=2)}
    ),
}
FILE = {
    "filename": ANYTHING.filter(bool),
    "type": st.sampled_from(["text/plain", "application/pdf", "message/rfc822"]),
    "object": st.just(OBJECT),
    "content_id": st.none() | st.from_regex(r"[!-~]{1,20}", fullmatch=True),
}


@given(st.fixed_dictionaries(REQUEST), st.fixed_dictionaries(FILE))
@settings(suppress_health_check=[HealthCheck.filter_too_much], deadline=None)
def test_whatever_passes_the_rules_can_be_composed_and_injects_nothing(
    fields: dict[str, Any], file: dict[str, Any]
) -> None:
    request = asked(**fields, attachments=[file])
    assume(not faults(request, "", Known("ready", {OBJECT: 3}), NOON, 1000))
    name = drafting.one_line(file["filename"])
    files = [mime.File(name, file["type"], b"abc", file["content_id"])]
    answered = fields["answers"]["message_id"]
    raw = mime.compose(draft(request, mail_id("erp", "1"), OFFICE, NOON, files, answered))
    header = raw.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ")
    names = [line.partition(b":")[0].lower() for line in header.split(b"\r\n")]
    assert len(names) == len(set(names))
    assert not {b"bcc", b"sender", b"return-path"} & set(names)
    assert not set(b"\r\n") & set(raw.replace(b"\r\n", b""))
