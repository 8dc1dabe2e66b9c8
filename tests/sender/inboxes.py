"""Who gets the office's mails, and what lies in their folders."""

import asyncio
import email
from collections.abc import Sequence
from email.message import Message
from uuid import uuid4

from deploy import local
from tests.local.mail import PASSWORD, logged_in


def mailbox(servers: local.Servers) -> str:
    """The address of somebody new, who can receive mail."""
    address = f"u{uuid4().hex}@example.com"
    local.add_mail_user(servers, address, PASSWORD)
    return address


async def mails_in(servers: local.Servers, address: str, folder: str = "INBOX") -> list[Message]:
    """All mails in a folder."""
    return await asyncio.to_thread(_mails, servers, address, folder)


def _mails(servers: local.Servers, address: str, folder: str) -> list[Message]:
    with logged_in(servers, address) as imap:
        if imap.select(f'"{folder}"', readonly=True)[0] != "OK":
            return []
        numbers: Sequence[bytes] = imap.search(None, "ALL")[1][0].split()
        mails = []
        for number in numbers:
            part = imap.fetch(number.decode(), "(BODY.PEEK[] FLAGS)")[1][0]
            assert isinstance(part, tuple)
            mails.append(email.message_from_bytes(part[1]))
        return mails
