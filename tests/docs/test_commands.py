"""Every command of every page works, in the order of the page."""

import asyncio
from collections.abc import Callable

import aio_pika
import pytest

from deploy.local import mail_programs
from deploy.local.mail_programs import Person
from deploy.local.operating import Operated, command, rows
from deploy.local.story import eventually
from tests.docs.pages import Block, blocks, pages
from tests.docs.terminal import Terminal

ANNA = Person("Anna", "anna@customer.example")
GUIDES = ("docs/operations.md", "docs/sending.md", "README.md", "docs/development.md")
"""In the order in which they build upon each other."""
OF_SERVICES = sorted(str(page) for page in pages() if page.parts[0] == "services")


def test_whoever_follows_the_guides_operates_mailroom(reader: Terminal) -> None:
    for page in GUIDES:
        follow(reader, page)


@pytest.mark.parametrize("page", OF_SERVICES)
def test_whoever_reads_the_page_of_a_service_can_do_what_it_says(
    operator: Terminal, page: str
) -> None:
    operator.follow(Block(page, 0, "sh", TAKEN_FOR_GRANTED.get(page, "")))
    follow(operator, page)


def follow(reader: Terminal, page: str) -> None:
    for block in blocks(page, "sh"):
        for words, happens in MEANWHILE.items():
            if words in block.text:
                happens(reader)
        reader.follow(block)


TAKEN_FOR_GRANTED = {
    "services/directory/README.md": """
mailroom user add anna
mailroom user add ben
""",
    "services/router/README.md": """
mailroom mailbox add Sales
mailroom mailbox add Info
mailroom account add info --mailbox Info --address service@example.com \\
    --imap imaps://imap.example.com
printf 'From: shop@shop.example\\r\\n\\r\\nYour order\\r\\n' > mail.eml
""",
    "services/sender/README.md": """
mailroom migrate
mailroom mailbox add service --address service@example.com
mailroom account add service --mailbox service --address service@example.com \\
    --imap imaps://imap.example.com --smtp smtps://smtp.example.com
""",
    "services/ticketing/README.md": """
mailroom mailbox add service --address service@example.com
mailroom mailbox add returns
mailroom account add service --mailbox service --address service@example.com --interval 5 \\
    --imap imaps://imap.example.com --smtp smtps://smtp.example.com
echo "We are sorry." > answer.txt
mailroom serve all
""",
}
"""What is there before somebody reads the page of a service."""


def a_customer_writes(reader: Terminal) -> None:
    """Her mail is at a ticket before the reader goes on."""
    message = mail_programs.write(ANNA, ["service@example.com"], "My parcel", "It is broken.\n")
    del message["Message-ID"]
    message["Message-ID"] = "<parcel-1@customer.example>"
    mail_programs.post(reader.servers, message)
    it = _operated(reader)
    eventually("her mail opens a ticket", lambda: rows(it, "ticket", "list"))


def her_mails_are_counted(reader: Terminal) -> None:
    """The subscriber has had, by replay, what came before it."""
    eventually("it is counted", lambda: ANNA.address in command(_operated(reader), "tally"))


def a_program_errs(reader: Terminal) -> None:
    """Its request is none, and was parked before the reader goes on."""
    asyncio.run(_publish(reader.environment["MAILROOM_SENDER_BROKER_URL"], b"{}"))
    it = _operated(reader)
    eventually("its request is parked", lambda: rows(it, "parked", "list"))


async def _publish(url: str, body: bytes) -> None:
    async with await aio_pika.connect(url, timeout=10) as connection:
        exchange = await (await connection.channel()).get_exchange("mailroom", ensure=False)
        message = aio_pika.Message(body, message_id="1", type="mail.send", user_id="sender")
        await exchange.publish(message, "mail.send")


MEANWHILE: dict[str, Callable[[Terminal], None]] = {
    "mailroom trace parcel-1@customer.example": a_customer_writes,
    "mailroom ticket show 1": a_customer_writes,
    "mailroom parked show sender:1": a_program_errs,
    "mailroom tally\n": her_mails_are_counted,
}
"""What happens in the world before the reader comes to a block that has these words."""


def _operated(reader: Terminal) -> Operated:
    return Operated(reader.servers, reader.folder, reader.environment, ["mailroom"])
