"""What customers and colleagues use: ordinary mail programs, by the standard library alone.

Invariant: nothing of Mailroom is in here, so that what these programs see is evidence.
"""

import email
import email.policy
import imaplib
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import cache
from pathlib import Path

from deploy.local.addresses import Servers


@dataclass(frozen=True)
class Person:
    """Somebody with a mail program."""

    name: str
    address: str
    password: str = ""

    @property
    def display(self) -> str:
        """As their mail program writes From."""
        return f"{self.name} <{self.address}>"


def write(sender: Person, to: Sequence[str], subject: str, text: str) -> EmailMessage:
    """A new mail, as a mail program writes it."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = sender.display
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=sender.address.partition("@")[2])
    message.set_content(text)
    return message


def reply(sender: Person, to: EmailMessage, text: str) -> EmailMessage:
    """An answer with Re:, In-Reply-To and References (RFC 5322 sections 3.6.4 and 3.6.5)."""
    subject = str(to["Subject"])
    prefix = "" if subject.lower().startswith("re:") else "Re: "
    message = write(sender, [str(to["From"])], f"{prefix}{subject}", text)
    message["In-Reply-To"] = to["Message-ID"]
    message["References"] = f"{to['References'] or ''} {to['Message-ID']}".strip()
    return message


def post(servers: Servers, message: EmailMessage) -> str:
    """A stranger's server brings a mail for one of our domains; returns the server's answer."""
    with smtplib.SMTP("localhost", servers.postfix.smtp, timeout=30) as smtp:
        smtp.ehlo("mx.customer.test")
        smtp.mail(str(message["From"].addresses[0].addr_spec))
        for address in message["To"].addresses:
            smtp.rcpt(address.addr_spec)
        code, answer = smtp.data(message.as_bytes())
    return f"{code} {answer.decode()}"


def submit(servers: Servers, sender: Person, message: EmailMessage) -> None:
    """A person's own mail program: log in, submit over TLS, put a copy into Sent."""
    port, context = servers.postfix.submissions, _trusting(servers.ca_file)
    with smtplib.SMTP_SSL("localhost", port, timeout=30, context=context) as smtp:
        smtp.login(sender.address, sender.password)
        smtp.send_message(message)
    with _logged_in(servers, sender) as imap:
        imap.append("Sent", r"(\Seen)", "", message.as_bytes())


def folder(servers: Servers, owner: Person, name: str = "INBOX") -> list[EmailMessage]:
    """All mails of a folder, oldest first, without marking any as seen."""
    with _logged_in(servers, owner) as imap:
        return [_fetched(imap, uid, "BODY.PEEK[]") for uid in _uids(imap, name)]


def headers(servers: Servers, owner: Person, name: str = "INBOX") -> list[EmailMessage]:
    """The same without what is in them: of large mails, and many, it is told sooner."""
    with _logged_in(servers, owner) as imap:
        return [_fetched(imap, uid, "BODY.PEEK[HEADER]") for uid in _uids(imap, name)]


def uids(servers: Servers, owner: Person, name: str = "INBOX") -> list[int]:
    """The UIDs of a folder, ascending."""
    with _logged_in(servers, owner) as imap:
        return [int(uid) for uid in _uids(imap, name)]


@contextmanager
def _logged_in(servers: Servers, owner: Person) -> Iterator[imaplib.IMAP4_SSL]:
    port, context = servers.dovecot.imaps, _trusting(servers.ca_file)
    with imaplib.IMAP4_SSL("localhost", port, timeout=30, ssl_context=context) as imap:
        imap.login(owner.address, owner.password)
        yield imap


@cache
def _trusting(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def _uids(imap: imaplib.IMAP4_SSL, name: str) -> list[bytes]:
    imap.select(name, readonly=True)
    found: list[bytes] = imap.uid("SEARCH", "ALL")[1][0].split()
    return found


def _fetched(imap: imaplib.IMAP4_SSL, uid: bytes, what: str) -> EmailMessage:
    answer = imap.uid("FETCH", uid.decode(), f"({what})")[1][0]
    if not isinstance(answer, tuple):
        raise imaplib.IMAP4.error(f"no bytes for UID {uid.decode()}: {answer!r}")
    return email.message_from_bytes(answer[1], policy=email.policy.default)
