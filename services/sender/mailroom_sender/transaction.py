"""Giving a mail to an SMTP server (RFC 5321), step by step, once `mailroom.smtp` has logged in.

Invariant: before `deliver` nothing was sent, whatever went wrong; after its reply it is known what
became of the mail; between the two nobody knows, and `NoAnswer` says so. A mail goes out by
aiosmtplib's own DATA alone, which makes every line end CR LF and doubles leading dots: nothing in
a body can end it early (SMTP smuggling).
"""

import asyncio
from collections.abc import Iterable

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from mailroom.crashpoints import crashpoint
from mailroom.smtp import abort, said
from mailroom_sender.outcomes import Reply

CLOSING = 421
"""The server closes the connection (RFC 5321 section 3.8): said of it, not of this mail."""

_AN_END = 64
"""Bytes: the line that ends DATA is among so many last ones, encrypted or not."""


class Lost(Exception):
    """The connection ended before DATA: the server has forgotten the mail (RFC 5321, 4.1.1.4)."""

    def __init__(self, problem: str, code: int | None = None) -> None:
        self.problem, self.code = problem, code
        super().__init__(problem)


class NoAnswer(Exception):
    """DATA began, and its reply did not come, or says nothing: the mail may have left."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class BrokenOff(Exception):
    """DATA was broken off before its end had left this process: the server must forget the mail.

    A connection that closes early cancels what it was about (RFC 5321 section 4.1.1.10).
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


async def offer(
    client: SMTP, sender: str, recipients: Iterable[str], mail: bytes
) -> dict[str, Reply]:
    """MAIL, and RCPT for each recipient: what the server says of each.

    A refusal of MAIL is said of each of them. Raises Lost.
    """
    options = [f"SIZE={len(mail)}"] if client.supports_extension("size") else []
    if not mail.isascii() and client.supports_extension("8bitmime"):
        options.append("BODY=8BITMIME")
    replies: dict[str, Reply] = {}
    try:
        try:
            await client.mail(sender, options=options)
        except SMTPSenderRefused as refused:
            reply = _unless_closing(client, refused)
            return dict.fromkeys(recipients, reply)
        crashpoint("sender.mail_answered")
        for address in recipients:
            try:
                response = await client.rcpt(address)
                replies[address] = Reply(response.code, said(response.message))
            except SMTPRecipientRefused as refused:
                replies[address] = _unless_closing(client, refused)
    except SMTPException as failed:
        abort(client)
        raise Lost(f"connection lost before DATA: {said(str(failed.message))}") from None
    crashpoint("sender.recipients_answered")
    return replies


async def deliver(client: SMTP, mail: bytes, limit: float) -> Reply:
    """DATA: give the mail to the recipients who were accepted. `limit` is in seconds.

    Raises NoAnswer. When cancelled, what has not left this process does not leave any more; if the
    end of the mail is among it, BrokenOff is raised instead of CancelledError.
    """
    try:
        # The limit is not the library's: asyncio.wait_for, by which it waits, swallows a
        # cancellation that comes together with an answer (Python before 3.12), and goes on.
        async with asyncio.timeout(limit):
            response = await client.data(mail, timeout=None)
    except SMTPDataError as refused:
        if 400 <= refused.code < 600:
            return _reply(refused)
        abort(client)
        raise NoAnswer(f"the server answered DATA with {refused.code}") from None
    except SMTPException as failed:
        abort(client)
        raise NoAnswer(f"no answer to DATA: {said(str(failed.message))}") from None
    except TimeoutError:
        abort(client)
        raise NoAnswer(f"no answer to DATA within {limit:g} s") from None
    except asyncio.CancelledError:
        rest = _unsent(client)
        abort(client)
        if rest >= _AN_END:
            raise BrokenOff(f"broken off with {rest} bytes still to send") from None
        raise
    return Reply(response.code, said(response.message))


async def forget(client: SMTP) -> None:
    """RSET: drop what was offered, and keep the connection; or lose it."""
    try:
        await client.rset()
    except SMTPException:
        abort(client)


def _unsent(client: SMTP) -> int:
    """Bytes that the system has not taken yet. Under TLS asyncio shows those before encryption."""
    shown = client.transport
    beneath = getattr(getattr(shown, "_ssl_protocol", None), "_transport", None)
    transports = [one for one in (shown, beneath) if isinstance(one, asyncio.WriteTransport)]
    return sum(one.get_write_buffer_size() for one in transports)


def _unless_closing(client: SMTP, refused: SMTPResponseException) -> Reply:
    if refused.code == CLOSING:
        abort(client)
        raise Lost(f"the server closes the connection: {said(refused.message)}", CLOSING)
    return _reply(refused)


def _reply(refused: SMTPResponseException) -> Reply:
    return Reply(refused.code, said(refused.message))
