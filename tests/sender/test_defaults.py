"""What aiosmtplib does if nobody says otherwise, and that we say otherwise.

docs/decisions/defaults-we-override.md lists all of them.
"""

import asyncio

import pytest
from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPTimeoutError

from deploy import local
from mailroom import smtp, tls
from mailroom.imap import Login
from mailroom_sender import transaction
from mailroom_sender.settings import SenderSettings
from tests.local.mail import PASSWORD
from tests.sender.test_smtp import ANNA, MAIL, SENDER, connected, refused, stranger
from tests.sender.wire import Answer, AtEnd, wire


def offering(extension: bytes) -> Answer:
    """A server with this extension alone, where any password is wrong."""

    def answer(command: bytes) -> bytes | None:
        if command.startswith(b"EHLO"):
            return b"250-wire\r\n250 " + extension + b"\r\n"
        return b"535 5.7.8 no\r\n" if command.startswith(b"AUTH") else None

    return answer


async def test_no_password_goes_in_plain_text_where_somebody_cut_starttls_out(
    servers: local.Servers,
) -> None:
    """Default overridden: aiosmtplib uses TLS if it is offered; who cuts the offer out reads on."""
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = offering(b"AUTH PLAIN")
        by_default = SMTP(hostname="127.0.0.1", port=line.port)
        await by_default.connect()
        with pytest.raises(SMTPAuthenticationError):
            await by_default.login(SENDER, PASSWORD)
        smtp.abort(by_default)
        told = [command for command in line.commands if command.startswith(b"AUTH PLAIN")]
        await refused(Login("127.0.0.1", line.port, "starttls", SENDER, PASSWORD))
        assert [one for one in line.commands if one.startswith(b"AUTH")] == told
    assert len(told) == 1


async def test_a_wrong_password_counts_once_where_aiosmtplib_tries_it_by_every_method(
    servers: local.Servers,
) -> None:
    """Default overridden: `login` tries all methods, and a server locks the account three times
    sooner."""
    tries = {}
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = offering(b"AUTH CRAM-MD5 PLAIN LOGIN")
        by_default = SMTP(hostname="127.0.0.1", port=line.port, start_tls=False)
        await by_default.connect()
        with pytest.raises(SMTPAuthenticationError):
            await by_default.login(SENDER, "wrong")
        smtp.abort(by_default)
        tries["by default"] = sum(one.startswith(b"AUTH") for one in line.commands)
        line.commands.clear()
        await refused(Login("127.0.0.1", line.port, "none", SENDER, "wrong"))
        tries["ours"] = sum(one.startswith(b"AUTH") for one in line.commands)
    assert tries == {"by default": 3, "ours": 1}


async def test_an_answer_to_data_is_awaited_for_as_long_as_the_standard_says(
    servers: local.Servers,
) -> None:
    """Default overridden: aiosmtplib waits 60 s for any answer. Who gives up on a mail that the
    server is about to take sends it twice: RFC 5321, 4.5.3.2 wants ten minutes."""
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.at_end = AtEnd.HOLD
        by_default, ours = [
            await smtp.connect(stranger(line.port), tls.client_context(), "", 2) for _ in range(2)
        ]
        for client in (by_default, ours):
            await transaction.offer(client, SENDER, [ANNA], MAIL)
        sending = asyncio.create_task(transaction.deliver(ours, MAIL, 60))
        with pytest.raises(SMTPTimeoutError):
            await by_default.data(MAIL)
        assert not sending.done()
        line.let_go.set()
        assert (await sending).code == 250
        await smtp.end(ours)
    seconds = {name: SenderSettings.model_fields[name].default for name in DELAYS}
    assert seconds == DELAYS


DELAYS = {"answer_seconds": 300, "data_seconds": 600}


async def test_a_server_must_prove_its_name(servers: local.Servers) -> None:
    """Default kept on purpose: aiosmtplib verifies certificate and name, and our context does."""
    local.add_mail_user(servers, SENDER, PASSWORD)
    trusting = tls.client_context(servers.ca_file)
    login = Login("127.1", servers.postfix.submissions, "implicit", SENDER, PASSWORD)
    assert "certificate refused" in (await refused(login, trusting)).problem
    named = Login("localhost", servers.postfix.submissions, "implicit", SENDER, PASSWORD)
    await smtp.end(await connected(named, trusting))
