"""Each wrong field of a request is named, with what came and what to do."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailroom.contracts import INLINE_LIMIT, FieldError, MailSend
from mailroom_sender.validation import Known, faults, quotable, shown

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OBJECT = "ab" * 32
READY = Known("ready", {OBJECT: 1000})
GOOD = {
    "idempotency_key": "order-1",
    "account": "service",
    "to": [{"name": "Jörg Müller", "address": "joerg@example.com"}],
    "subject": "Ihre Bestellung über 5 €",
    "text": "Guten Tag",
}
FILE = {"filename": "Rechnung Ä.pdf", "type": "application/pdf", "object": OBJECT}


def check(known: Known = READY, content_hash: str = "1", **changed: Any) -> tuple[FieldError, ...]:
    request = MailSend.model_validate(GOOD | changed)
    return faults(request, content_hash, known, NOON, size_limit=25_000_000)


def wrong_fields(known: Known = READY, **changed: Any) -> list[str]:
    return [error.field for error in check(known, **changed)]


def test_a_good_request_has_no_faults() -> None:
    assert check() == ()
    assert check(text=None, html="<p>Guten Tag</p>", attachments=[FILE]) == ()


@pytest.mark.parametrize(
    ("standing", "remedy"),
    [
        ("unknown", "mailroom account list"),
        ("disabled", "enable it"),
        ("without_smtp", "no SMTP server"),
        ("forbidden", "may not send"),
    ],
)
def test_an_account_that_cannot_send_is_named(standing: Any, remedy: str) -> None:
    (error,) = check(Known(standing, {}))
    assert (error.field, error.value) == ("account", "service")
    assert remedy in error.remedy


def test_a_request_without_recipient_is_refused() -> None:
    assert wrong_fields(to=[]) == ["to"]
    assert wrong_fields(to=[], bcc=GOOD["to"]) == []


def test_each_wrong_address_is_named_by_its_place() -> None:
    bad = {"address": "nobody"}
    assert wrong_fields(to=[*GOOD["to"], bad], cc=[bad], bcc=[bad], reply_to=[bad]) == [
        "to.1.address",
        "cc.0.address",
        "bcc.0.address",
        "reply_to.0.address",
    ]


INJECTED = ["x\r\nBcc: eve@example.com", "x\nX: y", "x\ry", "x\0y", "x\x7fy", "x\x85y", "x\x1by"]


@pytest.mark.parametrize("value", INJECTED)
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("subject", lambda value: {"subject": value}),
        ("to.0.name", lambda value: {"to": [{"name": value, "address": "a@example.com"}]}),
        ("to.0.address", lambda value: {"to": [{"address": f"{value}@example.com"}]}),
        ("cc.0.name", lambda value: {"cc": [{"name": value, "address": "a@example.com"}]}),
        ("bcc.0.address", lambda value: {"bcc": [{"address": f"a@example.com{value}"}]}),
        (
            "reply_to.0.name",
            lambda value: {"reply_to": [{"name": value, "address": "a@example.com"}]},
        ),
        ("answers.message_id", lambda value: {"answers": {"message_id": value}}),
        ("answers.references.0", lambda value: {"answers": {"references": [value]}}),
        ("record.id", lambda value: {"record": {"kind": "order", "id": value}}),
        ("idempotency_key", lambda value: {"idempotency_key": value}),
        ("attachments.0.filename", lambda value: {"attachments": [FILE | {"filename": value}]}),
        (
            "attachments.0.content_id",
            lambda value: {"attachments": [FILE | {"content_id": value}]},
        ),
    ],
)
def test_control_characters_are_refused_in_every_value_that_enters_a_header(
    field: str, change: Any, value: str
) -> None:
    assert wrong_fields(**change(value)) == [field]


@pytest.mark.parametrize("value", INJECTED)
def test_the_contract_itself_refuses_them_in_tag_and_type(value: str) -> None:
    for changed in ({"tag": f"[{value}]"}, {"attachments": [FILE | {"type": f"text/{value}"}]}):
        with pytest.raises(ValueError, match="pattern"):
            MailSend.model_validate(GOOD | changed)


def test_a_mail_has_text_or_html() -> None:
    assert wrong_fields(text=None) == ["text"]
    assert wrong_fields(text="") == ["text"]
    assert wrong_fields(text="a\0b") == ["text"]


def test_an_object_that_does_not_exist_is_named() -> None:
    (error,) = check(attachments=[FILE | {"object": "cd" * 32}])
    assert (error.field, error.value) == ("attachments.0.object", "cd" * 32)


def test_base64_that_is_none_is_named() -> None:
    inline = {"filename": "a", "type": "text/plain"}
    for value in ("Zm9v!", "Zm9", "Zm9v\r\n", "Zm\u00f6="):
        assert wrong_fields(attachments=[inline | {"inline": value}]) == ["attachments.0.inline"]
    assert wrong_fields(attachments=[inline | {"inline": "Zm9v"}]) == []


def test_a_stranger_attaches_only_its_uploads() -> None:
    known = Known("ready", {OBJECT: 1000}, publisher="erp", uploads={"cd" * 32})
    (error,) = check(known, attachments=[FILE])
    assert (error.field, error.value) == ("attachments.0.object", OBJECT)
    assert "--publisher erp" in error.remedy
    uploaded = Known("ready", {OBJECT: 1000}, publisher="erp", uploads={OBJECT})
    assert check(uploaded, attachments=[FILE]) == ()


def test_inline_files_are_limited_together_and_all_attachments_too() -> None:
    half = base64.b64encode(b"x" * (INLINE_LIMIT // 2 + 1)).decode()
    inline = {"filename": "a", "type": "text/plain", "inline": half}
    assert wrong_fields(attachments=[inline]) == []
    assert wrong_fields(attachments=[inline, inline]) == ["attachments"]
    large = Known("ready", {OBJECT: 13_000_000})
    assert wrong_fields(large, attachments=[FILE]) == []
    assert wrong_fields(large, attachments=[FILE, FILE]) == ["attachments"]


def test_a_type_is_one_of_a_single_file() -> None:
    for wrong in ("multipart/mixed", "Multipart/Mixed", "téxt/plain", "-/-"):
        assert wrong_fields(attachments=[FILE | {"type": wrong}]) == ["attachments.0.type"]


def test_two_images_may_not_share_a_content_id() -> None:
    image = FILE | {"content_id": "logo"}
    assert wrong_fields(attachments=[image, image]) == ["attachments.1.content_id"]


def test_times_must_make_sense() -> None:
    later = NOON + timedelta(hours=1)
    assert wrong_fields(send_at=later, expires_at=later + timedelta(hours=1)) == []
    assert wrong_fields(send_at=later, expires_at=later) == ["expires_at"]
    assert wrong_fields(send_at=NOON + timedelta(days=367)) == ["send_at"]
    # The request may have waited for us: that is no fault of its publisher.
    assert wrong_fields(expires_at=NOON - timedelta(hours=1)) == []


def test_a_key_that_was_used_for_other_content_is_refused() -> None:
    used = Known("ready", {}, earlier_hash="1")
    assert check(used, content_hash="1") == ()
    (error,) = check(used, content_hash="2")
    assert (error.field, error.value) == ("idempotency_key", "order-1")


def test_all_faults_are_named_at_once() -> None:
    assert wrong_fields(Known("unknown", {}), to=[], subject="a\nb", text=None) == [
        "account",
        "to",
        "subject",
        "text",
    ]


def test_a_shown_value_is_printable_and_short() -> None:
    assert shown("a\r\nb\0") == r"a\r\nb\x00"
    assert len(shown("ü" * 1000)) == 120
    assert len(shown("\0" * 1000)) == 120


def test_a_message_id_that_no_header_can_hold_is_known_as_such() -> None:
    assert quotable("CAF+abc=1@mail.example.com")
    for strange in ("", "a b@c", "<a@b>", "ä@b", "a\nb", "x" * 1000):
        assert not quotable(strange)
