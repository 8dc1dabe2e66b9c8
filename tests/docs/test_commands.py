"""Every command of every page works, in the order of the page."""

from collections.abc import Callable
from contextlib import suppress

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from deploy.local.operating import CommandFailed, Operated, command, rows
from deploy.local.story import eventually
from tests.docs.pages import blocks
from tests.docs.terminal import Terminal

ANNA = Person("Anna", "anna@customer.example")
GUIDES = ("docs/operations.md", "README.md", "docs/development.md")
"""In the order in which they build upon each other."""


def test_whoever_follows_the_guides_operates_mailroom(reader: Terminal) -> None:
    for page in GUIDES:
        for block in blocks(page, "sh"):
            for words, happens in MEANWHILE.items():
                if words in block.text:
                    happens(reader)
            reader.follow(block)


def a_customer_writes(reader: Terminal) -> None:
    """Her mail is at a ticket before the reader goes on."""
    message = mail_programs.write(ANNA, ["service@example.com"], "My parcel", "It is broken.\n")
    del message["Message-ID"]
    message["Message-ID"] = "<parcel-1@customer.example>"
    mail_programs.post(reader.servers, message)
    it = _operated(reader)
    eventually("her mail opens a ticket", lambda: rows(it, "ticket", "list"))


def she_writes_again(reader: Terminal) -> None:
    """Her mail was counted before the reader goes on."""
    message = mail_programs.write(ANNA, ["service@example.com"], "And another", "Broken too.\n")
    mail_programs.post(reader.servers, message)
    it = _operated(reader)
    eventually("it is counted", lambda: ANNA.address in _said(it, "tally"))


MEANWHILE: dict[str, Callable[[Terminal], None]] = {
    "mailroom trace parcel-1@customer.example": a_customer_writes,
    "mailroom tally\n": she_writes_again,
}
"""What happens in the world before the reader comes to a block that has these words."""


def _operated(reader: Terminal) -> Operated:
    return Operated(reader.servers, reader.folder, reader.environment)


def _said(it: Operated, *arguments: str) -> str:
    with suppress(CommandFailed):
        return command(it, *arguments)
    return ""
