import time
from dataclasses import replace
from typing import Any

import pytest

from mailroom.mime import Mail
from mailroom_router.rules import LONGEST, Rule, RuleRefused, check, evidence, fits
from tests.router.samples import ALICE_ACCOUNT, SERVICE_ACCOUNT, a_mail, a_rule


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("customer@shop.example", "customer@shop.example"),
        ("*@shop.example", "customer@shop.example"),
        ("*@SHOP.example", "Customer@Shop.Example"),
        ("*invoice*", "Your invoice of March"),
        ("order ????", "Order 1234"),
        ("*straße*", "Neue STRASSE 5"),
        ("*[#1042-k7f3q]*", "Re: [#1042-k7f3q] A question"),
        ("a.c", "a.c"),
        ("*", ""),
        ("*", "two\nlines"),
    ],
)
def test_a_pattern_fits_the_whole_value_in_any_case(pattern: str, value: str) -> None:
    assert fits(pattern, value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("shop.example", "customer@shop.example"),
        ("*@shop.example", "customer@shop.example.evil.example"),
        ("invoice", "Your invoice of March"),
        ("order ????", "Order 12345"),
        ("a.c", "abc"),
        ("[ab]", "a"),
        ("[!a]", "b"),
        ("?", ""),
    ],
)
def test_a_pattern_fits_nothing_else(pattern: str, value: str) -> None:
    assert not fits(pattern, value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("*a" * 200 + "b", "a" * 100_000),
        ("*" * 400 + "b", "a" * 100_000),
        ("*a?" * 150 + "b*c", "a" * 100_000 + "b" + "a" * 100_000),
        ("(a+)+$", "a" * 100_000),
    ],
)
def test_no_pattern_and_no_value_makes_matching_slow(pattern: str, value: str) -> None:
    begun = time.process_time()
    assert not fits(pattern, value)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("condition", "mail", "phrase"),
    [
        (
            {"from_pattern": "*@bank.example"},
            a_mail(from_=["b@other.example", "a@bank.example"]),
            'from "a@bank.example" fits "*@bank.example"',
        ),
        (
            {"to_pattern": "service@*"},
            a_mail(to=["service@firm.example"]),
            'to "service@firm.example" fits "service@*"',
        ),
        (
            {"to_pattern": "service@*"},
            a_mail(cc=["service@firm.example"]),
            'to "service@firm.example" fits "service@*"',
        ),
        (
            {"to_pattern": "service@*"},
            a_mail(delivered_to=("service@firm.example",)),
            'to "service@firm.example" fits "service@*"',
        ),
        (
            {"subject_pattern": "*invoice*"},
            a_mail(subject="An Invoice"),
            'subject "An Invoice" fits "*invoice*"',
        ),
        (
            {"header_name": "List-ID", "header_pattern": "*dev.example*"},
            a_mail(headers=(("list-id", "other"), ("List-Id", "<dev.example>"))),
            'List-ID "<dev.example>" fits "*dev.example*"',
        ),
    ],
)
def test_a_condition_says_what_fits(condition: dict[str, Any], mail: Mail, phrase: str) -> None:
    assert evidence(a_rule("r", **condition), mail, SERVICE_ACCOUNT.id) == (phrase,)
    assert evidence(a_rule("r", **condition), a_mail(), SERVICE_ACCOUNT.id) is None


def test_all_conditions_must_hold() -> None:
    both = a_rule("r", from_pattern="*@shop.example", subject_pattern="*invoice*")
    assert evidence(both, a_mail(subject="An invoice"), SERVICE_ACCOUNT.id) is not None
    assert evidence(both, a_mail(subject="A question"), SERVICE_ACCOUNT.id) is None
    other = a_mail(subject="An invoice", from_=["a@other.example"])
    assert evidence(both, other, SERVICE_ACCOUNT.id) is None


def test_a_rule_for_an_account_fits_no_other() -> None:
    one = a_rule("r", account=SERVICE_ACCOUNT.id)
    assert evidence(one, a_mail(), SERVICE_ACCOUNT.id) == ("it came through this account",)
    assert evidence(one, a_mail(), ALICE_ACCOUNT.id) is None


def test_a_mail_without_the_field_does_not_fit_even_a_star() -> None:
    assert evidence(a_rule("r", from_pattern="*"), a_mail(from_=[]), SERVICE_ACCOUNT.id) is None


def test_a_long_value_is_shortened_in_the_evidence() -> None:
    found = evidence(
        a_rule("r", subject_pattern="x*"), a_mail(subject="x" * 5000), SERVICE_ACCOUNT.id
    )
    assert found is not None
    assert len(found[0]) < 200


GOOD = a_rule("Bills", from_pattern="*@shop.example")


@pytest.mark.parametrize(
    ("bad", "field", "remedy"),
    [
        (replace(GOOD, name=""), "NAME", "1 to 500 characters"),
        (replace(GOOD, name="known address"), "NAME", "another name"),
        (replace(GOOD, name="two\nlines"), "NAME", "printable"),
        (replace(GOOD, from_pattern="x" * (LONGEST + 1)), "--from", "1 to 500"),
        (replace(GOOD, to_pattern=""), "--to", "1 to 500"),
        (replace(GOOD, subject_pattern="a\x00b"), "--subject", "printable"),
        (replace(GOOD, header_name="List Id", header_pattern="*"), "--header", "Name: pattern"),
        (replace(GOOD, header_name="X", header_pattern=""), "--header", "1 to 500"),
        (replace(GOOD, from_pattern=None), "NAME", "give a condition"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(bad: Rule, field: str, remedy: str) -> None:
    assert check(GOOD, {"known address"}) == GOOD
    with pytest.raises(RuleRefused) as refused:
        check(bad, {"known address"})
    assert refused.value.field == field
    assert remedy in refused.value.remedy
