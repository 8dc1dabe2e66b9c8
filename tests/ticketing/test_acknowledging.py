"""No mail storm: what is never answered by itself."""

import pytest

from mailroom.contracts import Address
from tests.ticketing.desk import (
    CUSTOMER,
    SALES_MAILBOX,
    SERVICE,
    SERVICE_MAILBOX,
    US,
    bring,
    bring_all,
    desk,
    later,
    mail,
)


def test_a_new_ticket_is_acknowledged_and_a_mail_that_joins_is_not() -> None:
    known, first = desk(), mail()
    opened, joined = bring_all(known, first, mail(answers=first))
    assert (opened.outcome, opened.withheld) == ("opened", None)
    assert joined.outcome == "joined"


@pytest.mark.parametrize("auto", ["replied", "generated", "bulk", "list", "report"])
def test_what_machines_write_opens_a_ticket_that_is_not_acknowledged(auto: str) -> None:
    decision = bring(desk(), mail(auto=auto))
    assert (decision.outcome, decision.withheld) == ("opened", "automatic mail")


def test_mail_with_the_null_reverse_path_is_not_acknowledged() -> None:
    assert bring(desk(), mail(null_path=True)).withheld == "null reverse-path"


@pytest.mark.parametrize(
    "address",
    [
        "MAILER-DAEMON@relay.example",
        "owner-list@lists.example",
        "list-request@lists.example",
        "noreply@shop.example",
        "No-Reply+17@shop.example",
        "do-not-reply@shop.example",
    ],
)
def test_addresses_of_machines_are_not_acknowledged(address: str) -> None:
    assert bring(desk(), mail(address.lower())).withheld == "robot"


@pytest.mark.parametrize("name", ["reply", "noriko", "owner", "request", "nora.reply"])
def test_people_with_such_names_are_acknowledged(name: str) -> None:
    assert bring(desk(), mail(f"{name}@customer.example")).withheld is None


def test_our_own_addresses_are_not_acknowledged_in_from_or_reply_to() -> None:
    assert bring(desk(), mail(US)).withheld == "own address"
    assert bring(desk(), mail(customer=Address(address=US.upper()))).withheld == "own address"
    detailed = US.replace("@", "+case@")
    assert bring(desk(), mail(detailed)).withheld == "own address"
    assert bring(desk(), mail(customer=Address(address=detailed))).withheld == "own address"


@pytest.mark.parametrize("address", ["", "nobody", "a@b@c", f"{'a' * 300}@customer.example"])
def test_who_has_no_address_is_not_acknowledged(address: str) -> None:
    sender = Address(address=address)
    assert bring(desk(), mail(senders=(), author=sender, customer=sender)).withheld == "no address"


def test_nobody_is_not_acknowledged() -> None:
    assert bring(desk(), mail(senders=(), author=None, customer=None)).withheld == "no address"


def test_a_queue_may_switch_acknowledgements_off() -> None:
    known = desk()
    silent = type(SERVICE)(3, "Silent", SERVICE.account, "en", acknowledge=False)
    known.feeds = {SERVICE_MAILBOX: silent}
    assert bring(known, mail()).withheld == "switched off"


def test_one_address_is_answered_once_an_hour_and_ticket_queue_in_one_batch_too() -> None:
    known = desk()
    reasons = [each.withheld for each in bring_all(known, mail(), mail(CUSTOMER.upper()), mail())]
    assert reasons == [None, "answered within the hour", "answered within the hour"]
    assert bring(known, mail(), SALES_MAILBOX).withheld is None
    assert bring(known, mail(), at=later(minutes=59)).withheld == "answered within the hour"
    assert bring(known, mail(), at=later(minutes=60)).withheld is None


def test_an_address_counts_without_its_detail() -> None:
    """Else a machine that answers from another one each time would be answered for ever."""
    name, _, domain = CUSTOMER.partition("@")
    known = desk()
    details = [mail(f"{name}+case{number}@{domain}") for number in range(3)]
    reasons = [each.withheld for each in bring_all(known, *details, mail())]
    assert reasons == [None, *["answered within the hour"] * 3]


def test_what_is_withheld_does_not_count_for_the_hour() -> None:
    known = desk()
    bring(known, mail(auto="bulk"))
    assert bring(known, mail()).withheld is None


def test_two_auto_responders_that_do_not_say_so_come_to_rest() -> None:
    known, sent = desk(), 0
    for minute in range(59):
        reply = mail("bot@machine.example", subject=f"Out of office {minute}")
        sent += bring(known, reply, at=later(minutes=minute)).withheld is None
    assert sent == 1
