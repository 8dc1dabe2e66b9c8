"""A mail as ticketing sees it: bounded, ordered, comparable."""

from uuid import uuid4

from mailroom.mime import Report
from mailroom_ticketing.mails import ANCESTORS, ancestry, from_routed, key_of, locks
from tests.ticketing.bench import came, routed
from tests.ticketing.desk import CUSTOMER, US, mail


def test_in_reply_to_is_newer_than_references_and_nothing_is_named_twice() -> None:
    assert ancestry(("root", "parent"), ("parent",), None) == ("root", "parent")
    assert ancestry(("root", "parent"), ("other",), None) == ("root", "parent", "other")
    assert ancestry(("parent", "root"), ("parent",), None) == ("root", "parent")
    assert ancestry((), (), None) == ()


def test_what_a_report_concerns_is_the_newest() -> None:
    assert ancestry(("root",), ("parent",), "ours") == ("root", "parent", "ours")


def test_of_a_long_list_the_root_and_the_newest_stay() -> None:
    ids = tuple(str(number) for number in range(1000))
    kept = ancestry(ids, (), None)
    assert len(kept) == ANCESTORS
    assert (kept[0], kept[-1], kept[1]) == ("0", "999", "989")


def test_message_ids_lose_their_brackets_and_what_is_none_is_left_out() -> None:
    assert ancestry(("<a@b>", " ", "<>", "x" * 999), (" <c@d> ",), None) == ("a@b", "c@d")


def test_addresses_are_compared_in_lower_case_and_overlong_ones_left_out() -> None:
    seen = from_routed(came(routed(mail("Kim@Customer.Example", to=(US, "x" * 300)))), None)
    assert (seen.senders, seen.recipients) == ((CUSTOMER,), (US,))
    assert seen.author is not None
    assert seen.author.address == "Kim@Customer.Example"


def test_sender_stands_in_for_a_missing_from() -> None:
    event = routed(mail()).model_copy(update={"from_": (), "sender": (mail("a@b.example").author,)})
    assert from_routed(came(event), None).senders == ("a@b.example",)


def test_a_report_is_read_for_the_mail_that_it_concerns() -> None:
    report = Report(recipients=(), message_id="ours@acme.example", subject="Re: [#1-aaaaa] Printer")
    seen = from_routed(came(routed(mail(auto="report", subject="Undelivered"))), report)
    assert seen.newest_first[0] == "ours@acme.example"
    assert "[#1-aaaaa]" in seen.tagged


def test_locks_are_sorted_and_cover_message_ids_the_mail_and_the_customer() -> None:
    one = mail(references=("a", "b"))
    wanted = {key_of(each) for each in ("a", "b", one.message_id or "")}
    wanted |= {key_of(f"mail {one.id}"), key_of(f"customer {CUSTOMER}")}
    taken = locks([one, one])
    assert taken == sorted(int.from_bytes(key[:8], signed=True) for key in wanted)


def test_two_mails_of_one_conversation_share_a_lock_whichever_knows_the_other() -> None:
    original = mail("a@customer.example")
    reply = mail("b@customer.example", answers=original)
    assert set(locks([original])) & set(locks([reply]))
    assert not set(locks([original])) & set(locks([mail("c@customer.example")]))


def test_a_key_has_16_bytes_whatever_its_text() -> None:
    assert {len(key_of(text)) for text in ("", "x" * 100_000, "é\ud800")} == {16}
    assert key_of(str(uuid4())) != key_of(str(uuid4()))
