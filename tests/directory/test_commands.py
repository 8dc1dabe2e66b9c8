import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from mailroom_directory import store
from tests.directory.conftest import As, Mailroom, Refused

SERVERS = ("--imap", "imaps://anna@localhost", "--smtp", "smtps://anna@localhost")
NO_TEST = ("--password-stdin", "--no-test")


def events(as_: As) -> list[dict[str, Any]]:
    """The events in the outbox, by the order in which they were written."""

    async def read() -> list[dict[str, Any]]:
        async with as_("directory") as tx:
            outbox = store.messaging.outbox
            rows = await tx.execute(select(outbox.c.type, outbox.c.body).order_by(outbox.c.id))
            return [{"type": row.type, **json.loads(row.body)} for row in rows]

    return asyncio.run(read())


@pytest.fixture
def service(mailroom: Mailroom) -> Mailroom:
    """A central mailbox that an account feeds; nobody logged in for it."""
    mailroom("mailbox", "add", "service", "--address", "Service@example.com")
    mailroom(
        "account", "add", "service", "--mailbox", "service", "--address", "service@example.com",
        *SERVERS, *NO_TEST, stdin="hunter2\n",
    )  # fmt: skip
    return mailroom


def test_a_central_mailbox_with_an_account_takes_two_commands(service: Mailroom) -> None:
    mailbox = service.shows("mailbox", "service")
    assert mailbox["kind"] == "central"
    assert mailbox["addresses"] == ["service@example.com"]
    assert mailbox["accounts"] == ["service"]
    account = service.shows("account", "service")
    assert account["imap"] == "imaps://anna@localhost:993"
    assert account["smtp"] == "smtps://anna@localhost:465"
    assert account["mailbox"] == "service"
    assert account["state"] == "never seen"


def test_lists_are_plain_tables(service: Mailroom) -> None:
    assert service("account", "list").splitlines() == [
        "NAME     ADDRESS              MAILBOX  STATE",
        "service  service@example.com  service  never seen",
    ]
    assert service("mailbox", "list").splitlines() == [
        "NAME     KIND     OWNER  ADDRESSES            ACCOUNTS",
        "service  central  -      service@example.com  service",
    ]
    assert service("publisher", "list") == "none\n"


def test_a_list_as_json_has_one_object_a_line(service: Mailroom) -> None:
    service("mailbox", "add", "billing")
    listed = [json.loads(line) for line in service("mailbox", "list", "--json").splitlines()]
    assert [mailbox["name"] for mailbox in listed] == ["billing", "service"]
    assert service("publisher", "list", "--json") == ""


def test_every_change_is_told_from_its_own_transaction(service: Mailroom, as_: As) -> None:
    service("user", "add", "anna")
    service("group", "add", "team", "--add", "anna")
    service("mailbox", "change", "service", "--write", "team")
    service("publisher", "add", "erp", "--account", "service")
    service("account", "change", "service", "--interval", "5")
    service("user", "remove", "anna")
    told = events(as_)
    assert {event["type"] for event in told} == {"directory.changed"}
    kinds = [event["kind"] for event in told]
    assert kinds == [
        "mailbox", "account", "user", "group", "mailbox", "publisher", "account", "user"
    ]  # fmt: skip
    assert told[4]["id"] == service.shows("mailbox", "service")["id"]


def test_a_change_that_is_refused_leaves_neither_row_nor_event(service: Mailroom, as_: As) -> None:
    before = events(as_)
    with pytest.raises(Refused):
        service("group", "add", "team", "--add", "nobody")
    assert service("group", "list") == "none\n"
    assert events(as_) == before


def test_users_and_groups_are_shown_with_all_that_is_theirs(service: Mailroom) -> None:
    service("user", "add", "anna", "--display-name", "Anna Ö", "--address", "anna@example.com")
    service("mailbox", "add", "anna", "--owner", "anna")
    service(
        "account", "add", "anna", "--mailbox", "anna", "--address", "anna@example.com",
        "--imap", "imaps://mail.example.com", *NO_TEST, stdin="hunter2",
    )  # fmt: skip
    service("group", "add", "team", "--add", "anna")
    service("mailbox", "change", "service", "--read", "team")
    anna = service.shows("user", "anna")
    assert anna["display_name"] == "Anna Ö"
    assert anna["groups"] == ["team"]
    assert anna["mailboxes"] == anna["accounts"] == ["anna"]
    assert service.shows("group", "team")["read"] == ["service"]
    service("mailbox", "change", "service", "--write", "team")
    assert service.shows("mailbox", "service")["write"] == ["team"]
    assert service.shows("mailbox", "service")["read"] == []
    service("mailbox", "change", "service", "--revoke", "team")
    assert service.shows("group", "team")["write"] == []
    service("group", "change", "team", "--drop", "anna")
    assert service.shows("group", "team")["members"] == []


def test_names_change_and_are_found_in_any_case(service: Mailroom) -> None:
    service("user", "add", "anna")
    service("user", "change", "ANNA", "--name", "Anne", "--display-name", "Anne")
    service("group", "add", "team")
    service("group", "change", "team", "--name", "crew")
    service("mailbox", "change", "service", "--name", "support")
    service("account", "change", "service", "--name", "support")
    service("publisher", "add", "erp")
    service("publisher", "change", "erp", "--name", "erp2")
    assert service.shows("user", "anne")["name"] == "Anne"
    assert service.shows("group", "crew")
    assert service.shows("publisher", "erp2")
    assert service.shows("account", "support")["mailbox"] == "support"


def test_addresses_of_a_mailbox_come_and_go(service: Mailroom) -> None:
    service(
        "mailbox", "change", "service",
        "--add-address", "info@example.com", "--drop-address", "SERVICE@example.com",
    )  # fmt: skip
    assert service.shows("mailbox", "service")["addresses"] == ["info@example.com"]


def test_an_accounts_settings_change_and_an_empty_value_clears(service: Mailroom) -> None:
    service(
        "account", "change", "service", "--calendar", "*/2 7-19 * * MON-FRI",
        "--timezone", "Europe/Berlin", "--folder", "INBOX", "--folder", "Old=archive",
        "--sent", "server", "--sent-folder", "Out", "--unknown", "hold", "--no-idle",
        "--start", "2026-01-31", "--disabled", "--display-name", "Service",
    )  # fmt: skip
    account = service.shows("account", "service")
    assert account["calendar"] == "*/2 7-19 * * MON-FRI"
    assert account["folders"] == ["INBOX=inbox", "Old=archive"]
    assert (account["sent"], account["sent_folder"]) == ("server", "Out")
    assert (account["unknown"], account["idle"], account["enabled"]) == ("hold", False, False)
    assert account["start"] == "2026-01-30T23:00:00+00:00"
    assert account["state"] == "disabled"
    service("account", "change", "service", "--calendar=", "--folder=", "--sent-folder=")
    account = service.shows("account", "service")
    assert (account["calendar"], account["folders"], account["sent_folder"]) == (None, [], None)
    assert account["start"] == "2026-01-30T23:00:00+00:00"
    assert account["interval_seconds"] == 60


def test_fetch_now_is_a_command_to_the_fetcher(service: Mailroom, as_: As) -> None:
    service("account", "fetch", "service")
    assert events(as_)[-1] == {
        "type": "account.fetch",
        "account": service.shows("account", "service")["id"],
    }


def test_publishers_get_and_lose_accounts(service: Mailroom) -> None:
    service("publisher", "add", "erp", "--account", "service")
    assert service.shows("publisher", "erp")["accounts"] == ["service"]
    assert service.shows("account", "service")["publishers"] == ["erp"]
    service("publisher", "change", "erp", "--drop-account", "service")
    assert service.shows("publisher", "erp")["accounts"] == []


def test_what_nothing_needs_can_be_removed(service: Mailroom) -> None:
    service("user", "add", "anna")
    service("group", "add", "team", "--add", "anna")
    service("publisher", "add", "erp")
    for kind, name in [
        ("publisher", "erp"),
        ("account", "service"),
        ("mailbox", "service"),
        ("group", "team"),
        ("user", "anna"),
    ]:
        service(kind, "remove", name)
        assert service(kind, "list") == "none\n"


REFUSALS = [
    (("user", "show", "nobody"), "NAME 'nobody': no such user"),
    (("group", "change", "nobody"), "NAME 'nobody': no such group"),
    (("mailbox", "remove", "nobody"), "NAME 'nobody': no such mailbox"),
    (("account", "fetch", "nobody"), "NAME 'nobody': no such account"),
    (("account", "test", "nobody"), "NAME 'nobody': no such account"),
    (("publisher", "change", "nobody"), "NAME 'nobody': no such publisher"),
    (("user", "add", "a b"), "NAME 'a b': 1 to 63 letters"),
    (("user", "add", "ben", "--address", "ben"), "--address 'ben': is no address"),
    (("group", "add", "g", "--add", "nobody"), "--add 'nobody': no such user"),
    (("mailbox", "add", "SERVICE"), "NAME 'SERVICE': there is a mailbox of this name"),
    (("mailbox", "add", "m", "--address", "x@"), "--address 'x@': is no address"),
    (
        ("mailbox", "add", "m", "--address", "Service@example.com"),
        "--address 'service@example.com': is the address of a mailbox already",
    ),
    (("mailbox", "add", "m", "--owner", "nobody"), "--owner 'nobody': no such user"),
    (("mailbox", "add", "m", "--read", "nobody"), "--read 'nobody': no such group"),
    (("mailbox", "change", "service", "--owner", "anna"), "--owner 'anna': the mailbox is central"),
    (("mailbox", "change", "anna", "--read", "team"), "GROUP 'team': a private mailbox"),
    (
        ("mailbox", "change", "service", "--drop-address", "a@b.de"),
        "--drop-address 'a@b.de': is not there",
    ),
    (("group", "change", "team", "--drop", "anna"), "--drop 'anna': is not there"),
    (("publisher", "add", "Ticketing"), "NAME 'Ticketing': begins as a service of Mailroom"),
    (("publisher", "add", "ticketing.mail"), "NAME 'ticketing.mail': begins as a service"),
    (("publisher", "add", "dead"), "NAME 'dead': begins as a service"),
    (("publisher", "change", "erp", "--name", "router.x"), "--name 'router.x': begins as"),
    (("publisher", "change", "erp", "--add-account", "no"), "--add-account 'no': no such account"),
    (("publisher", "change", "erp", "--name", "erp2"), "--name 'erp2': there is a publisher"),
    (("mailbox", "change", "anna", "--name", "service"), "--name 'service': there is a mailbox"),
    (
        ("mailbox", "change", "anna", "--add-address", "service@example.com"),
        "--add-address 'service@example.com': is the address of a mailbox already",
    ),
    (
        ("account", "change", "service", "--imap", "imaps://a@mail.example.com:993/INBOX"),
        "leave out what stands behind the port, as in imaps://user@host:993",
    ),
    (("publisher", "add", "p", "--account", "nobody"), "--account 'nobody': no such account"),
    (("account", "change", "service", "--interval", "4"), "--interval '4': 5 to 86400 seconds"),
    (
        ("account", "change", "service", "--calendar", "0 0 30 2 *"),
        "--calendar '0 0 30 2 *': never fires",
    ),
    (("account", "change", "service", "--timezone", "Mars"), "--timezone 'Mars': no such zone"),
    (("account", "change", "service", "--mailbox", "nobody"), "--mailbox 'nobody': no such"),
    (
        ("account", "change", "service", "--imap", "imap+plain://a@mail.example.com"),
        "--imap 'imap+plain://a@mail.example.com': plain text only to localhost",
    ),
    (("account", "change", "service", "--imap=", "--smtp="), "--imap '': an account needs"),
    (("mailbox", "remove", "service"), "NAME 'service': accounts feed it"),
    (("account", "remove", "service"), "NAME 'service': publishers may send with it"),
    (("user", "remove", "anna"), "NAME 'anna': owns private mailboxes"),
    (("group", "remove", "team"), "NAME 'team': has rights on mailboxes"),
    (("account", "add", "x"), "--mailbox '': is needed"),
    (("account", "add", "x", "--mailbox", "service"), "--address '': is needed"),
    (
        ("account", "add", "x", "--mailbox", "service", "--address", "x@example.com"),
        "--imap '': an account needs --imap, --smtp or both",
    ),
    (
        ("account", "add", "x", "--mailbox", "nobody", "--address", "x@example.com", *SERVERS),
        "--mailbox 'nobody': no such mailbox",
    ),
    (
        ("account", "add", "x", "--mailbox", "service", "--address", "x@example.com", *SERVERS),
        "password '': no terminal to ask at",
    ),
    (
        ("account", "change", "service", "--password-file", "/nowhere"),
        "'/nowhere': cannot be read: No such file or directory; name a file",
    ),
    (
        ("account", "change", "service", "--password-stdin"),
        "--password-stdin '': is empty; give the password",
    ),
    (
        ("account", "change", "service", "--password-stdin", "--password-file", "f"),
        "--password-file 'f': give it or --password-stdin, not both",
    ),
]


def test_each_mistake_is_answered_by_one_line_with_field_value_and_remedy(
    service: Mailroom,
) -> None:
    service("user", "add", "anna")
    service("mailbox", "add", "anna", "--owner", "anna")
    service("group", "add", "team")
    service("mailbox", "change", "service", "--read", "team")
    service("publisher", "add", "erp", "--account", "service")
    service("publisher", "add", "erp2")
    for arguments, line in REFUSALS:
        with pytest.raises(Refused) as refused:
            service(*arguments)
        assert line in refused.value.line, arguments
        assert refused.value.line.count("\n") == 1, arguments
        assert refused.value.exit_code == 2, arguments


def test_a_disabled_or_sending_account_is_not_fetched(service: Mailroom) -> None:
    service("account", "change", "service", "--disabled")
    with pytest.raises(Refused, match="is disabled; `mailroom account change service --enabled`"):
        service("account", "fetch", "service")
    service("account", "change", "service", "--enabled", "--imap=")
    with pytest.raises(Refused, match="has no IMAP server"):
        service("account", "fetch", "service")
