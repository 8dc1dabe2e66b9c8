"""`mailroom rule …` as a person types it, on a real database."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from pydantic_core import Url
from sqlalchemy import update

from mailroom import database as databases
from mailroom_router import store
from mailroom_router.commands import rule
from tests.installation import Database
from tests.router.test_service import QUESTION


class Person:
    """Types commands, and sees what they print."""

    def __init__(self, database: Database) -> None:
        self.environment = {
            "MAILROOM_ROUTER_DATABASE_URL": database.url("router"),
            "MAILROOM_ROUTER_BROKER_URL": "amqp://router@127.0.0.1/",
        }

    def types(self, *words: str) -> Result:
        return CliRunner(env=self.environment).invoke(rule, words)

    def does(self, *words: str) -> list[str]:
        result = self.types(*words)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    def is_refused(self, *words: str) -> str:
        result = self.types(*words)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        return result.output


@pytest.fixture
def person(people: Database) -> Person:
    return Person(people)


def test_rules_are_added_behind_the_others_and_listed_in_order(person: Person) -> None:
    person.does("add", "Shops", "--mailbox", "sales", "--from", "*@shop.example")
    person.does("add", "Lists", "--mailbox", "Info", "--header", "List-Id: *dev*", "--propose")
    person.does(
        *("add", "First", "--mailbox", "Service", "--account", "info", "--subject", "*bill*"),
        *("--to", "x@*", "--position", "5", "--disabled"),
    )
    assert person.does("list") == [
        "      5  First: account 'info', to 'x@*', subject '*bill*' -> Service  (disabled)",
        "     10  Shops: from '*@shop.example' -> Sales",
        "     20  Lists: header 'List-Id: *dev*' -> Info  (proposes)",
    ]
    assert [json.loads(line)["name"] for line in person.does("list", "--json")] == [
        "First",
        "Shops",
        "Lists",
    ]


def test_a_rule_is_shown_changed_and_removed(person: Person) -> None:
    person.does("add", "Shops", "--mailbox", "Sales", "--from", "*@shop.example")
    person.does(
        *("change", "shops", "--name", "Bills", "--mailbox", "Info", "--from", ""),
        *("--subject", "*bill*", "--position", "7", "--propose", "--account", "service"),
    )
    shown = dict(line.split(maxsplit=1) for line in person.does("show", "Bills"))
    assert shown.pop("id")
    assert shown == {
        "name": "Bills",
        "position": "7",
        "mailbox": "Info",
        "account": "service",
        "subject_pattern": "*bill*",
        "stop": "False",
        "enabled": "True",
    }
    person.does("change", "Bills", "--account", "", "--stop", "--disabled")
    assert person.does("list") == ["      7  Bills: subject '*bill*' -> Info  (disabled)"]
    person.does("remove", "Bills")
    assert person.does("list") == []


def test_a_mail_is_tried_without_being_stored(person: Person, tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes(QUESTION)
    assert person.does("test", str(mail), "--account", "info") == [
        "mailbox: Service",
        "by: known address",
        'because: delivered to "service@firm.example", an address of mailbox "Service"',
    ]
    person.does("add", "Shops", "--mailbox", "Sales", "--from", "*@shop.example")
    person.does("add", "Bills", "--mailbox", "Info", "--subject", "*bill*", "--position", "1")
    assert person.does("test", str(mail), "--account", "info") == [
        "      1  Bills: does not fit",
        '     10  Shops: from "customer@shop.example" fits "*@shop.example"',
        "mailbox: Sales",
        "by: Shops",
        'because: rule "Shops" at position 10: from "customer@shop.example" fits "*@shop.example"',
    ]
    person.does("remove", "Shops")
    person.does("remove", "Bills")
    assert "mailbox: Info" in person.does("test", str(mail), "--account", "info", "--sent")


MISTAKES = [
    (
        ["add", "R", "--mailbox", "Nowhere", "--from", "*"],
        "--mailbox 'Nowhere': there is no such mailbox; `mailroom mailbox list` shows all",
    ),
    (
        ["add", "R", "--mailbox", "Sales", "--account", "nobody"],
        "--account 'nobody': there is no such account; `mailroom account list` shows all",
    ),
    (
        ["add", "R", "--mailbox", "Sales"],
        "NAME 'R': give a condition; --from '*' takes every mail that has a sender",
    ),
    (
        ["add", "R", "--mailbox", "Sales", "--header", "List-Id"],
        "--header 'List-Id': give 'Name: pattern', as 'List-Id: *dev*'",
    ),
    (
        ["add", "R", "--mailbox", "Sales", "--header", "Bad Name: x"],
        "--header 'Bad Name': give 'Name: pattern', as 'List-Id: *dev*'",
    ),
    (
        ["add", "Own Mailbox", "--mailbox", "Sales", "--from", "*"],
        "NAME 'Own Mailbox': means a decision without a rule; take another name",
    ),
    (
        ["add", "there", "--mailbox", "Sales", "--from", "*"],
        "NAME 'there': this rule is there; `mailroom rule change` changes it",
    ),
    (
        ["change", "Other", "--name", "There"],
        "--name 'There': another rule has this name; take another",
    ),
    (
        ["change", "Other", "--from", ""],
        "NAME 'Other': give a condition; --from '*' takes every mail that has a sender",
    ),
    (
        ["change", "Nothing", "--from", "*"],
        "NAME 'Nothing': there is no such rule; `mailroom rule list` shows all",
    ),
    (
        ["remove", "Nothing"],
        "NAME 'Nothing': there is no such rule; `mailroom rule list` shows all",
    ),
    (
        ["show", "Nothing"],
        "NAME 'Nothing': there is no such rule; `mailroom rule list` shows all",
    ),
    (["add", "R", "--mailbox", "Sales", "--position", "-1"], "0<=x<=1000000"),
    (["test", __file__, "--account", "nobody"], "--account 'nobody': there is no such account"),
    (["test", "/no/such/file", "--account", "info"], "does not exist"),
]


def test_a_mistake_is_answered_with_field_value_and_remedy_and_changes_nothing(
    person: Person,
) -> None:
    person.does("add", "There", "--mailbox", "Sales", "--from", "*")
    person.does("add", "Other", "--mailbox", "Sales", "--from", "*")
    before = person.does("list")
    for words, answer in MISTAKES:
        assert answer in person.is_refused(*words), words
    assert person.does("list") == before


def test_a_mistake_is_one_line_on_standard_error(person: Person) -> None:
    command = [str(Path(sys.executable).parent / "mailroom"), "rule", "remove", "Nothing"]
    done = subprocess.run(
        command, env=os.environ | person.environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mailroom: NAME 'Nothing': there is no such rule; `mailroom rule list` shows all\n"
    )


def test_a_rule_whose_mailbox_was_removed_is_listed_as_passed_over(
    person: Person, people: Database
) -> None:
    person.does("add", "Shops", "--mailbox", "Info", "--from", "*@shop.example")
    asyncio.run(_lose_mailboxes(people))
    (line,) = person.does("list")
    assert line.endswith("(removed: the rule is passed over)")


async def _lose_mailboxes(people: Database) -> None:
    engine = databases.engine(Url(people.url("router")), "test", connections=1)
    async with engine.begin() as tx:
        await tx.execute(update(store.rule).values(mailbox=uuid4()))
    await engine.dispose()
