from dataclasses import replace
from uuid import uuid4

from mailroom.mime import Mail
from mailroom_router.routing import Mailbox, atlas, decide
from tests.router.samples import (
    ALICE_ACCOUNT,
    ALICES,
    ALICES_LISTS,
    BOBS,
    INFO,
    INFO_ACCOUNT,
    SALES,
    SERVICE,
    SERVICE_ACCOUNT,
    a_mail,
    a_rule,
    a_world,
)


def mailbox_for(mail: Mail, account: object = INFO_ACCOUNT.id, direction: str = "in") -> Mailbox:
    return decide(mail, account, direction, a_world()).mailbox  # type: ignore[arg-type]


def test_a_rule_decides_before_any_address() -> None:
    rule = a_rule("Shops", SALES, position=30, from_pattern="*@shop.example")
    decision = decide(
        a_mail(delivered_to=("service@firm.example",)), INFO_ACCOUNT.id, "in", a_world(rule)
    )
    assert decision.mailbox == SALES
    assert (decision.kind, decision.rule) == ("rule", "Shops")
    assert decision.reason == (
        'rule "Shops" at position 30: from "customer@shop.example" fits "*@shop.example"'
    )


def test_rules_are_asked_by_position_and_the_first_that_stops_decides() -> None:
    late = a_rule("Late", SERVICE, position=20, from_pattern="*")
    early = a_rule("Early", SALES, position=10, from_pattern="*")
    assert decide(a_mail(), INFO_ACCOUNT.id, "in", a_world(late, early)).rule == "Early"


def test_rules_at_one_position_are_asked_by_name() -> None:
    rules = [a_rule(name, from_pattern="*") for name in ("b", "a", "c")]
    assert decide(a_mail(), INFO_ACCOUNT.id, "in", a_world(*rules)).rule == "a"


def test_a_rule_without_stop_proposes_and_a_later_one_overrules_it() -> None:
    first = a_rule("First", SALES, position=1, from_pattern="*", stop=False)
    unfit = a_rule("Unfit", SERVICE, position=2, from_pattern="nobody", stop=False)
    last = a_rule("Last", SERVICE, position=3, subject_pattern="*", stop=True)
    unasked = a_rule("Unasked", SALES, position=4, from_pattern="*")
    decision = decide(a_mail(), INFO_ACCOUNT.id, "in", a_world(first, unfit, last, unasked))
    assert (decision.mailbox, decision.rule) == (SERVICE, "Last")
    assert decision.reason.endswith('; it overrules "First"')


def test_a_proposal_that_nothing_overrules_decides() -> None:
    rule = a_rule("Proposed", SALES, from_pattern="*", stop=False)
    assert decide(a_mail(), INFO_ACCOUNT.id, "in", a_world(rule)).rule == "Proposed"


def test_a_disabled_rule_and_one_whose_mailbox_is_gone_are_passed_over() -> None:
    disabled = a_rule("Disabled", SALES, from_pattern="*", enabled=False)
    orphan = replace(a_rule("Orphan", from_pattern="*"), mailbox=uuid4())
    assert decide(a_mail(), INFO_ACCOUNT.id, "in", a_world(disabled, orphan)).kind == "account"


def test_delivered_to_comes_before_to_and_to_before_cc() -> None:
    mail = a_mail(
        delivered_to=("sales@firm.example",),
        to=["service@firm.example"],
        cc=["offers@firm.example"],
    )
    assert mailbox_for(mail) == SALES
    assert mailbox_for(replace(mail, delivered_to=())) == SERVICE
    assert mailbox_for(replace(mail, delivered_to=(), to=())) == SALES


def test_the_first_known_address_of_to_wins() -> None:
    assert mailbox_for(
        a_mail(to=["x@y.example", "sales@firm.example", "service@firm.example"])
    ) == (SALES)
    assert mailbox_for(a_mail(to=["service@firm.example", "sales@firm.example"])) == SERVICE


def test_an_address_is_known_in_any_case_and_with_a_detail() -> None:
    assert mailbox_for(a_mail(to=["SERVICE@Firm.Example"])) == SERVICE
    assert mailbox_for(a_mail(to=["service+order-7@firm.example"])) == SERVICE
    assert mailbox_for(a_mail(to=["service+@firm.example"])) == SERVICE
    assert mailbox_for(a_mail(to=["service-7@firm.example"])) == INFO
    assert mailbox_for(a_mail(to=["+@firm.example", "@", ""])) == INFO


def test_an_address_known_with_its_detail_is_not_taken_for_the_one_without() -> None:
    bills = Mailbox(uuid4(), "Bills", "central", ("Service+Bills@firm.example",))
    world = atlas([INFO_ACCOUNT], [INFO, SERVICE, bills], [])
    assert decide(
        a_mail(to=["service+bills@firm.example"]), INFO_ACCOUNT.id, "in", world
    ).mailbox == (bills)


def test_the_reason_names_address_and_mailbox() -> None:
    decision = decide(a_mail(cc=["service@firm.example"]), INFO_ACCOUNT.id, "in", a_world())
    assert (decision.kind, decision.rule) == ("address", "known address")
    assert decision.reason == 'Cc "service@firm.example", an address of mailbox "Service"'


def test_without_a_known_address_the_account_decides() -> None:
    decision = decide(a_mail(to=["x@y.example"]), INFO_ACCOUNT.id, "in", a_world())
    assert (decision.mailbox, decision.kind, decision.rule) == (INFO, "account", "own mailbox")
    assert decision.reason == ('no rule and no known address; account "info" feeds mailbox "Info"')


def test_what_comes_to_a_private_account_stays_private_whoever_else_is_addressed() -> None:
    mail = a_mail(to=["service@firm.example", "bob@firm.example"], cc=["alice@firm.example"])
    assert mailbox_for(mail, ALICE_ACCOUNT.id) == ALICES
    assert mailbox_for(replace(mail, cc=()), ALICE_ACCOUNT.id) == ALICES
    forged = replace(mail, delivered_to=("bob@firm.example", "service@firm.example"))
    assert mailbox_for(forged, ALICE_ACCOUNT.id) == ALICES


def test_a_private_account_feeds_another_mailbox_of_the_same_person_by_address() -> None:
    mail = a_mail(to=["alice.lists@firm.example"])
    assert mailbox_for(mail, ALICE_ACCOUNT.id) == ALICES_LISTS


def test_a_rule_may_take_mail_out_of_a_private_account() -> None:
    rule = a_rule("Offers", SALES, account=ALICE_ACCOUNT.id, subject_pattern="*offer*")
    decision = decide(a_mail(subject="Your offer"), ALICE_ACCOUNT.id, "in", a_world(rule))
    assert decision.mailbox == SALES


def test_a_mail_to_the_firm_does_not_vanish_in_a_colleagues_mailbox() -> None:
    both = a_mail(to=["bob@firm.example", "service@firm.example"])
    assert mailbox_for(both, SERVICE_ACCOUNT.id) == SERVICE
    assert mailbox_for(replace(both, to=both.to[:1]), SERVICE_ACCOUNT.id) == BOBS
    delivered = replace(both, delivered_to=("bob@firm.example",))
    assert mailbox_for(delivered, SERVICE_ACCOUNT.id) == BOBS


def test_mail_from_a_sent_folder_belongs_to_the_address_that_it_is_from() -> None:
    mail = a_mail(from_=["sales@firm.example"], to=["service@firm.example"])
    decision = decide(mail, INFO_ACCOUNT.id, "out", a_world())
    assert (decision.mailbox, decision.kind, decision.rule) == (SALES, "sender", "known sender")
    assert decision.reason == 'from "sales@firm.example", an address of mailbox "Sales"'
    assert mailbox_for(mail, INFO_ACCOUNT.id, "in") == SERVICE


def test_who_writes_as_the_firm_from_a_private_account_writes_for_the_firm() -> None:
    assert mailbox_for(a_mail(from_=["service@firm.example"]), ALICE_ACCOUNT.id, "out") == SERVICE
    assert mailbox_for(a_mail(from_=["bob@firm.example"]), ALICE_ACCOUNT.id, "out") == ALICES
    assert mailbox_for(a_mail(from_=["bob@firm.example"]), SERVICE_ACCOUNT.id, "out") == SERVICE
