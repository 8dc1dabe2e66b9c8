"""Mail by Python's own clients: how the tests send and find it."""

import email
import imaplib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage, Message

from deploy import local
from tests.waiting import until

PASSWORD = "a:pass word"


def tls(servers: local.Servers) -> ssl.SSLContext:
    """Trusts the servers' own authority, and checks names as ever."""
    return ssl.create_default_context(cafile=str(servers.ca_file))


@contextmanager
def logged_in(
    servers: local.Servers, address: str, password: str = PASSWORD
) -> Iterator[imaplib.IMAP4_SSL]:
    """An IMAP session over implicit TLS."""
    server = servers.dovecot
    imap = imaplib.IMAP4_SSL(server.host, server.imaps, ssl_context=tls(servers), timeout=30)
    try:
        imap.login(address, password)
        yield imap
    finally:
        with suppress(OSError):
            imap.shutdown()


def mail(to: str, sender: str = "anna@customer.test", attached: bytes = b"") -> EmailMessage:
    """A customer's mail."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = to
    message["Subject"] = "My printer is on fire"
    message.set_content("Please come.\n")
    if attached:
        message.add_attachment(attached, maintype="application", subtype="octet-stream")
    return message


Refused = dict[str, tuple[int, bytes]]


def deliver(servers: local.Servers, message: EmailMessage, *recipients: str) -> Refused:
    """Send as another mail server does, without a login; returns the refused recipients."""
    with smtplib.SMTP(servers.postfix.host, servers.postfix.smtp, timeout=60) as smtp:
        return smtp.send_message(message, to_addrs=list(recipients) or None)


async def first_in_inbox(servers: local.Servers, address: str) -> Message:
    """The first mail of the inbox, as soon as there is one."""
    with logged_in(servers, address) as imap:

        def arrived() -> bool:
            return imap.select("INBOX", readonly=True)[1] != [b"0"]

        await until(arrived, within=30)
        part = imap.fetch("1", "(BODY.PEEK[])")[1][0]
        assert isinstance(part, tuple)
        return email.message_from_bytes(part[1])
