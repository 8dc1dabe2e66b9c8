"""The sender's SMTP: whom it trusts, what goes over the wire, what it makes of odd answers."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import pytest
from aiosmtplib import SMTP

from deploy import local
from deploy.local import tls as certificates
from mailroom import smtp, tls
from mailroom.imap import Login
from mailroom_sender import transaction
from mailroom_sender.outcomes import Reply
from tests.local.mail import PASSWORD
from tests.sender.inboxes import mailbox, mails_in
from tests.sender.wire import AtEnd, Wire, wire
from tests.waiting import until

SENDER, ANNA = "office@example.com", "anna@example.com"
MAIL = b"Subject: x\r\n\r\nGuten Tag\r\n"


def stranger(port: int) -> Login:
    """Nobody in particular, in plain text, as Postfix lets strangers in."""
    return Login("127.0.0.1", port, "none", "", "")


async def connected(login: Login, context: ssl.SSLContext | None = None) -> SMTP:
    return await smtp.connect(login, context or tls.client_context(), "", 10)


async def refused(login: Login, context: ssl.SSLContext | None = None) -> smtp.NotConnected:
    with pytest.raises(smtp.NotConnected) as failed:
        await connected(login, context)
    return failed.value


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_it_logs_in_over_verified_tls(servers: local.Servers, mode: str) -> None:
    local.add_mail_user(servers, SENDER, PASSWORD)
    postfix = servers.postfix
    login = {
        "implicit": Login("localhost", postfix.submissions, "implicit", SENDER, PASSWORD),
        "starttls": Login("localhost", postfix.submission, "starttls", SENDER, PASSWORD),
    }[mode]
    client = await connected(login, tls.client_context(servers.ca_file))
    assert client.get_transport_info("sslcontext") is not None
    await smtp.end(client)
    # The system's authorities alone do not know this one.
    assert "certificate refused" in str(await refused(login))


async def test_a_wrong_password_is_tried_once_and_not_by_every_method(
    servers: local.Servers,
) -> None:
    local.add_mail_user(servers, SENDER, PASSWORD)
    logins = 0

    def answer(command: bytes) -> bytes | None:
        nonlocal logins
        if command.startswith(b"EHLO"):
            return b"250-wire\r\n250 AUTH CRAM-MD5 PLAIN LOGIN\r\n"
        logins += command.startswith(b"AUTH")
        return b"535 5.7.8 authentication failed\r\n" if command.startswith(b"AUTH") else None

    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = answer
        login = Login("127.0.0.1", line.port, "none", SENDER, "wrong")
        failed = await refused(login)
    assert (failed.code, logins) == (535, 1)
    assert f"wrong user or password for {SENDER}" in failed.problem


async def test_a_login_that_fails_for_now_does_not_blame_the_password(
    servers: local.Servers,
) -> None:
    """RFC 4954 section 6: a server whose own directory of users is away says 454."""

    def answer(command: bytes) -> bytes | None:
        if command.startswith(b"EHLO"):
            return b"250-wire\r\n250 AUTH PLAIN\r\n"
        return b"454 4.7.0 later\r\n" if command.startswith(b"AUTH") else None

    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = answer
        failed = await refused(Login("127.0.0.1", line.port, "none", SENDER, PASSWORD))
    assert (failed.code, failed.is_refusal) == (454, False)
    assert "not possible just now" in failed.problem
    assert "wrong" not in failed.problem


async def test_a_password_goes_in_plain_text_to_the_loopback_alone() -> None:
    failed = await refused(Login("192.0.2.1", 25, "none", SENDER, PASSWORD))
    assert "loopback only" in failed.problem


async def test_starttls_that_is_not_offered_is_a_failure_and_not_plain_text(
    servers: local.Servers,
) -> None:
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = lambda command: b"250 wire\r\n" if command.startswith(b"EHLO") else None
        failed = await refused(Login("127.0.0.1", line.port, "starttls", SENDER, PASSWORD))
        assert "STARTTLS" in failed.problem
        assert not any(command.startswith(b"AUTH") for command in line.commands)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"554 5.7.1 go away\r\n", "554 5.7.1 go away"),
        (b"421 4.3.2 too busy\r\n", "421 4.3.2 too busy"),
        (b"+OK POP3 ready\r\n", "Malformed"),
        (b"", "the server closed it"),
    ],
)
async def test_a_server_that_does_not_greet_is_told_in_words(greeting: bytes, words: str) -> None:
    async with greeting_with(greeting) as port:
        assert words.lower() in (await refused(stranger(port))).problem.lower()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with greeting_with(None) as port:
        with pytest.raises(smtp.NotConnected, match="timed out"):
            await smtp.connect(stranger(port), tls.client_context(), "", 0.3)


async def test_a_name_that_does_not_resolve_is_told() -> None:
    failed = await refused(Login("nowhere.invalid", 465, "implicit", SENDER, PASSWORD))
    assert "no such host" in failed.problem


ODD = {
    "250 before the mail": (b"DATA", b"250 2.0.0 what mail?\r\n"),
    "a reply that is none": (b"DATA", b"what?\r\n"),
    "a code that does not exist": (b"DATA", b"299 2.0.0 hm\r\n"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_an_answer_to_data_that_says_nothing_is_unknown(
    servers: local.Servers, odd: str
) -> None:
    command, reply = ODD[odd]
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = lambda said: reply if said == command else None
        client = await connected(stranger(line.port))
        await transaction.offer(client, SENDER, [ANNA], MAIL)
        with pytest.raises(transaction.NoAnswer):
            await transaction.deliver(client, MAIL, 5)
        assert not client.is_connected


@pytest.mark.parametrize("code", [421, 451, 552, 554])
async def test_data_that_is_refused_has_an_answer(servers: local.Servers, code: int) -> None:
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = lambda said: b"%d no\x00\xff\r\n" % code if said == b"DATA" else None
        client = await connected(stranger(line.port))
        await transaction.offer(client, SENDER, [ANNA], MAIL)
        assert await transaction.deliver(client, MAIL, 5) == Reply(code, "no")
        await smtp.end(client)


async def test_a_refused_sender_is_said_of_every_recipient(servers: local.Servers) -> None:
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.answer = lambda said: b"553 5.7.1 no\r\n" if said.startswith(b"MAIL") else None
        client = await connected(stranger(line.port))
        said = await transaction.offer(client, SENDER, [ANNA, SENDER], MAIL)
        await smtp.end(client)
    assert said == dict.fromkeys([ANNA, SENDER], Reply(553, "5.7.1 no"))


@pytest.mark.parametrize("mode", ["none", "implicit"])
async def test_what_is_cancelled_in_the_middle_of_data_does_not_go_on_leaving_and_that_is_known(
    servers: local.Servers, mode: Literal["none", "implicit"]
) -> None:
    large = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 2_000_000
    context = tls_server(servers) if mode == "implicit" else None
    async with stalling(context) as (port, received):
        login = Login("127.0.0.1", port, mode, "", "")
        client = await connected(login, tls.client_context(servers.ca_file))
        assert client.transport
        few_in_the_kernel(client.transport.get_extra_info("socket"))
        sending = asyncio.create_task(transaction.deliver(client, large, 60))
        await received.begun.wait()
        sending.cancel()
        await asyncio.wait({sending})
        assert isinstance(sending.exception(), transaction.BrokenOff)
        got = await received.rest()
    assert len(got) < len(large)
    assert not got.endswith(b".\r\n")


async def test_what_is_cancelled_when_its_end_has_left_is_not_known(
    servers: local.Servers,
) -> None:
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        line.at_end = AtEnd.HOLD
        client = await connected(stranger(line.port))
        await transaction.offer(client, SENDER, [ANNA], MAIL)
        sending = asyncio.create_task(transaction.deliver(client, MAIL, 60))
        await line.ended.wait()
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()


async def test_who_is_cancelled_just_when_the_server_says_go_on_sends_nothing() -> None:
    """Default overridden: `asyncio.wait_for`, by which aiosmtplib waits, swallows a cancellation
    that comes together with the answer (Python before 3.12), and the mail goes out all the same."""
    with consenting() as (port, server):
        client = await connected(stranger(port))
        sending = asyncio.create_task(transaction.deliver(client, MAIL, 60))
        await asyncio.to_thread(server.asked.wait, 10)
        # The loop stands still until the answer is there, and takes it from the wire in its next
        # turn but one; whoever waits for it hears of it a turn later.
        server.go_on.set()
        assert server.answered.wait(10)
        for _ in range(2):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
    assert server.received == b""


@dataclass
class Consenting:
    """A server that answers DATA when it is told to, on a thread of its own."""

    asked: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    received: bytes = b""

    def serve(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as said, suppress(ConnectionError):
            connection.sendall(b"220 ready\r\n")
            while (line := said.readline()) != b"DATA\r\n":
                connection.sendall(b"250 ok\r\n" if line else b"")
            self.asked.set()
            self.go_on.wait(10)
            connection.sendall(b"354 go on\r\n")
            self.answered.set()
            self.received = said.read()


@contextmanager
def consenting() -> Iterator[tuple[int, Consenting]]:
    server = Consenting()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.serve, args=[listening])
        thread.start()
        yield listening.getsockname()[1], server
        thread.join()


END_OF_DATA = {
    "LF . LF": b"\n.\n",
    "LF . CR LF": b"\n.\r\n",
    "CR LF . LF": b"\r\n.\n",
    "CR . CR": b"\r.\r",
    "CR . CR LF": b"\r.\r\n",
    "CR LF . CR": b"\r\n.\r",
    "LF . CR": b"\n.\r",
    "CR . LF": b"\r.\n",
    "CR LF . CR LF": b"\r\n.\r\n",
}


@pytest.mark.parametrize("form", END_OF_DATA)
async def test_no_form_of_an_end_of_data_in_a_mail_smuggles_a_second_one(
    servers: local.Servers, form: str
) -> None:
    anna, eve = mailbox(servers), mailbox(servers)
    smuggled = (
        b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<" + eve.encode() + b">\r\nDATA\r\n"
        b"Subject: smuggled\r\n\r\nx\r\n.\r\n"
    )
    mail = b"Subject: one\r\n\r\nbefore" + END_OF_DATA[form] + smuggled + b"after\r\n"
    async with wire(servers.postfix.host, servers.postfix.smtp) as line:
        client = await connected(stranger(line.port))
        await transaction.offer(client, SENDER, [anna], mail)
        assert (await transaction.deliver(client, mail, 10)).code == 250
        await smtp.end(client)
        assert_only_crlf_and_doubled_dots(line, form)
    (one,) = await until(lambda: mails_in(servers, anna), within=30)
    assert "smuggled" in one.get_payload()
    assert "after" in one.get_payload()
    assert await mails_in(servers, eve) == []


def assert_only_crlf_and_doubled_dots(line: Wire, form: str) -> None:
    (sent,) = line.mails
    bare = sent.replace(b"\r\n", b"")
    assert b"\r" not in bare, form
    assert b"\n" not in bare, form
    assert not any(one.startswith(b".") and one[1:2] != b"." for one in sent.split(b"\r\n")), form


@asynccontextmanager
async def greeting_with(greeting: bytes | None) -> AsyncIterator[int]:
    """A server that says this and closes; with None it says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        if greeting is not None:
            writer.write(greeting)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.close()


def tls_server(servers: local.Servers) -> ssl.SSLContext:
    folder, context = servers.folder / "tls", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / certificates.CERTIFICATE, folder / certificates.KEY)
    return context


@dataclass
class Received:
    """What a server got of a mail."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    data: bytes = b""

    async def rest(self) -> bytes:
        """Let the server read on, until nothing more comes."""
        self.go_on.set()
        await asyncio.wait_for(self.ended.wait(), 10)
        return self.data


def few_in_the_kernel(connection: socket.socket) -> None:
    """Let the system hold little of what is under way; left alone, it may hold a whole mail."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)


@asynccontextmanager
async def stalling(
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[int, Received]]:
    """A server that stops reading in the middle of a mail."""
    received = Received()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while (line := await reader.readline()) != b"DATA\r\n":
            writer.write(b"250 ok\r\n" if line else b"")
        writer.write(b"354 go on\r\n")
        received.data = await reader.readexactly(1000)
        received.begun.set()
        await received.go_on.wait()
        with suppress(ConnectionError):
            while piece := await reader.read(2**16):
                received.data += piece
        received.ended.set()
        writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    few_in_the_kernel(listening)
    server = await asyncio.start_server(serve, sock=listening, ssl=context)
    try:
        yield listening.getsockname()[1], received
    finally:
        server.close()
