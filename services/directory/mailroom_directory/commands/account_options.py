"""The options of `mailroom account add` and `change`, and what they say.

Invariant: an option that is not given changes nothing; an empty one clears what may be empty.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import click

from mailroom.directory.model import Folder
from mailroom_directory import accounts
from mailroom_directory.accounts import AccountSettings
from mailroom_directory.fields import FieldRefused
from mailroom_directory.server_urls import Login, Protocol, login

_OPTIONS = (
    click.option("--mailbox", metavar="MAILBOX", help="that it feeds when nothing else decides"),
    click.option("--address", metavar="ADDRESS", help="that its mail comes from"),
    click.option("--display-name", metavar="TEXT", help="beside the address"),
    click.option("--imap", metavar="URL", help="imaps://USER@HOST:993, or imap:// for STARTTLS"),
    click.option("--smtp", metavar="URL", help="smtps://USER@HOST:465, or smtp:// for STARTTLS"),
    click.option(
        "--folder",
        "folders",
        multiple=True,
        metavar="NAME[=ROLE]",
        help="to read, role inbox, sent, junk, archive or other; repeatable; "
        "without any: INBOX and the server's Sent",
    ),
    click.option(
        "--sent",
        type=click.Choice(["append", "server"]),
        help="append a copy to the Sent folder (at first), or the server does it itself (Gmail)",
    ),
    click.option("--sent-folder", metavar="NAME", help="instead of the server's own"),
    click.option(
        "--unknown",
        type=click.Choice(["resend", "hold"]),
        help="a mail of which nobody knows whether it left: send again (at first), or hold",
    ),
    click.option("--start", metavar="DATE", help="older mail is backfill; at first now"),
    click.option(
        "--interval", "interval_seconds", type=int, metavar="SECONDS", help="5 or more; at first 60"
    ),
    click.option("--calendar", metavar="CRON", help=f"instead of the interval: {accounts.CRON}"),
    click.option(
        "--timezone", metavar="ZONE", help="of calendar and start: Europe/Berlin; at first UTC"
    ),
    click.option(
        "--idle/--no-idle", default=None, help="use IDLE where the server has it, at first yes"
    ),
    click.option("--enabled/--disabled", default=None, help="fetch and send, or do not"),
)


def account_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `add` and `change` share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings(known: AccountSettings, options: Mapping[str, Any], at: datetime) -> AccountSettings:
    """What is known of an account, with what these options say. Raises FieldRefused."""
    names = [field.name for field in fields(AccountSettings) if field.name != "start"]
    given = {name: options[name] for name in names if options.get(name) is not None}
    for clearable in ("calendar", "sent_folder"):
        if given.get(clearable) == "":
            given[clearable] = None
    changed = replace(known, **given)
    if options["start"] is not None:
        zone = accounts.timezone(changed.timezone)
        changed = replace(changed, start=accounts.start(options["start"], zone))
    return accounts.checked(changed, at)


def given_logins(options: Mapping[str, Any], address: str) -> list[Login]:
    """The servers that these options name. Raises FieldRefused."""
    urls: dict[Protocol, str | None] = {"imap": options["imap"], "smtp": options["smtp"]}
    return [login(protocol, url, address) for protocol, url in urls.items() if url]


def dropped_logins(options: Mapping[str, Any]) -> list[Protocol]:
    """The servers that these options take away, by an empty URL."""
    urls: dict[Protocol, str | None] = {"imap": options["imap"], "smtp": options["smtp"]}
    return [protocol for protocol, url in urls.items() if url == ""]


def folders(options: Mapping[str, Any]) -> tuple[Folder, ...] | None:
    """The folders that these options choose; None if they say nothing. Raises FieldRefused."""
    return accounts.folders(options["folders"]) if options["folders"] else None


def required(options: Mapping[str, Any], *names: str) -> None:
    """Raise FieldRefused for the first of these options that is missing."""
    for name in names:
        if not options[name]:
            raise FieldRefused(f"--{name}", "", "is needed for a new account")
