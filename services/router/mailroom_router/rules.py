"""The rules that people write: whether one fits a mail, and by what evidence.

Invariant: a pattern is matched in time linear in the value, whatever was written or sent. The one
grammar is: `*` stands for any characters, `?` for one, anything else for itself; case does not
count; the pattern must fit the whole value (`*invoice*` finds the word anywhere).
"""

import fnmatch
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from mailroom.mime import Mail

SHOWN = 80
"""Characters of a value that a reason quotes."""

LONGEST = 500
"""Characters of a name or a pattern, at most."""

FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,100}")
"""RFC 5322 section 3.6.8: printable ASCII without space and colon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. Every condition that it has must hold; a pattern that is None asks nothing."""

    id: UUID
    name: str
    position: int
    """Rules are asked by position, then by name."""
    mailbox: UUID
    account: UUID | None = None
    from_pattern: str | None = None
    """An address of From."""
    to_pattern: str | None = None
    """An address that the mail is for: delivered to, To or Cc."""
    subject_pattern: str | None = None
    header_name: str | None = None
    header_pattern: str | None = None
    """Any field of that name, decoded."""
    stop: bool = True
    """No later rule is asked. Without it the rule proposes, and a later one that fits overrules."""
    enabled: bool = True


class RuleRefused(Exception):
    """A rule that cannot be: which field, what stands there, what to give instead."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(f"{field} {value!r}: {remedy}")


def check(rule: Rule, reserved: Container[str] = ()) -> Rule:
    """The rule, if it can be one. Raises RuleRefused."""
    given = {
        "NAME": rule.name,
        "--from": rule.from_pattern,
        "--to": rule.to_pattern,
        "--subject": rule.subject_pattern,
        "--header": rule.header_pattern,
    }
    for field, value in given.items():
        if value is not None and not 0 < len(value) <= LONGEST:
            raise RuleRefused(field, value[:SHOWN], f"give 1 to {LONGEST} characters")
        if value is not None and not value.isprintable():
            raise RuleRefused(field, value, "give printable characters in one line")
    if rule.name.lower() in reserved:
        raise RuleRefused("NAME", rule.name, "means a decision without a rule; take another name")
    if rule.header_name is not None and not FIELD_NAME.fullmatch(rule.header_name):
        raise RuleRefused("--header", rule.header_name, "give 'Name: pattern', as 'List-Id: *dev*'")
    if rule.account is None and all(value is None for value in list(given.values())[1:]):
        raise RuleRefused(
            "NAME", rule.name, "give a condition; --from '*' takes every mail that has a sender"
        )
    return rule


def evidence(rule: Rule, mail: Mail, account: UUID) -> tuple[str, ...] | None:
    """What makes the rule fit, a phrase for each condition; None if it does not fit."""
    if rule.account not in {None, account}:
        return None
    found = ["it came through this account"] if rule.account else []
    for field, pattern, values in _conditions(rule, mail):
        value = next((value for value in values if fits(pattern, value)), None)
        if value is None:
            return None
        found.append(f"{field} {shown(value)} fits {shown(pattern)}")
    return tuple(found)


def fits(pattern: str, value: str) -> bool:
    """Whether the pattern fits the whole value, in any case."""
    return _compiled(pattern).match(value.casefold()) is not None


def shown(value: str) -> str:
    """A value in quotes, shortened, for a person's eyes."""
    return f'"{value[:SHOWN]}…"' if len(value) > SHOWN else f'"{value}"'


def _conditions(rule: Rule, mail: Mail) -> Iterator[tuple[str, str, Sequence[str]]]:
    if rule.from_pattern is not None:
        yield "from", rule.from_pattern, [address.address for address in mail.from_]
    if rule.to_pattern is not None:
        written = [address.address for address in (*mail.to, *mail.cc)]
        yield "to", rule.to_pattern, [*mail.delivered_to, *written]
    if rule.subject_pattern is not None:
        yield "subject", rule.subject_pattern, [mail.subject]
    if rule.header_name is not None and rule.header_pattern is not None:
        name = rule.header_name.lower()
        values = [value for field, value in mail.headers if field.lower() == name]
        yield rule.header_name, rule.header_pattern, values


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # fnmatch joins the pieces between stars as atomic groups, which never backtrack. Its `[…]` are
    # taken literally: a tag in a subject is no character class.
    return re.compile(fnmatch.translate(pattern.casefold().replace("[", "[[]")))
