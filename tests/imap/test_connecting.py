"""Connecting and logging in: over verified TLS, and what is said when it does not work."""

import logging
import socket
import ssl
from collections.abc import Mapping

import pytest

from deploy import local
from mailroom import imap, tls
from tests.imap.between import Between
from tests.imap.conftest import User
from tests.imap.scripted import scripted
from tests.local.mail import PASSWORD


@pytest.mark.parametrize("mode", ["implicit", "starttls", "none"])
async def test_a_user_logs_in(user: User, mode: str) -> None:
    dovecot = user.servers.dovecot
    port = dovecot.imaps if mode == "implicit" else dovecot.imap
    connection = await imap.connect(user.login(tls=mode, port=port), user.context)
    encrypted = connection.transport.get_extra_info("cipher") is not None
    assert encrypted == (mode != "none")
    assert imap.can_idle(connection)
    await imap.logout(connection)


@pytest.mark.parametrize("password", ['with "quotes" and \\', "pässwörd", "日本"])
async def test_a_password_may_hold_any_printable_character(
    dovecot: local.Servers, user: User, password: str
) -> None:
    address = f"{len(password)}-{user.address}"
    local.add_mail_user(dovecot, address, password)
    login = user.login(user=address, password=password)
    await imap.logout(await imap.connect(login, user.context))


async def _failure(user: User, **changes: object) -> imap.ImapFailure:
    with pytest.raises(imap.ImapFailure) as failed:
        await imap.connect(user.login(**changes), user.context, 2)
    return failed.value


async def test_an_unknown_host_is_told(user: User) -> None:
    failed = await _failure(user, host="imap.nowhere.invalid", port=993)
    assert type(failed) is imap.HostUnknown
    assert str(failed) == "imap.nowhere.invalid:993: no such host: check the server's name"


async def test_a_name_that_can_be_none_is_an_unknown_host(user: User) -> None:
    assert type(await _failure(user, host="a..b")) is imap.HostUnknown


async def test_a_closed_port_is_told(user: User) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        failed = await _failure(user, port=closed.getsockname()[1])
    assert type(failed) is imap.ConnectRefused
    assert "connection refused: nothing listens there, check the port" in str(failed)


async def test_a_wrong_password_is_told_and_not_shown(user: User) -> None:
    failed = await _failure(user, password="wrong-password")
    assert type(failed) is imap.LoginRefused
    assert f"wrong user or password for {user.address}; the server says: [AUTH" in str(failed)
    assert "wrong-password" not in str(failed)


async def test_a_certificate_of_a_stranger_is_refused(user: User) -> None:
    with pytest.raises(imap.CertificateRefused, match="MAILROOM_TLS_CA_FILE"):
        await imap.connect(user.login(), tls.client_context())


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_a_certificate_for_another_name_is_refused(user: User, mode: str) -> None:
    port = user.servers.dovecot.imaps if mode == "implicit" else user.servers.dovecot.imap
    # Resolves to loopback, and no certificate names it.
    failed = await _failure(user, host="127.1", tls=mode, port=port)
    assert type(failed) is imap.CertificateRefused


async def test_tls_at_a_port_without_tls_is_told(user: User) -> None:
    failed = await _failure(user, port=user.servers.dovecot.imap)
    assert type(failed) is imap.TlsFailed
    assert "check port and TLS mode" in str(failed)


async def test_a_server_that_does_not_greet_is_told(user: User) -> None:
    async with scripted(greeting=b"") as server:
        failed = await _failure(user, port=server.port, tls="none")
    assert type(failed) is imap.TimedOut
    assert str(failed).endswith("timed out: no answer to the connection within 2 s")


@pytest.mark.parametrize(
    ("answers", "greeting", "mode", "expected"),
    [
        ({}, b"* BYE too many users\r\n", "none", imap.ConnectionLost),
        ({}, b"SSH-2.0-OpenSSH\r\n", "none", imap.AnswerUnreadable),
        ({}, b"* PREAUTH welcome\r\n", "starttls", imap.AnswerUnreadable),
        ({}, b"* OK ready\r\n", "starttls", imap.StartTlsMissing),
        (
            {b"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nTAG OK done\r\n"},
            b"* OK ready\r\n",
            "none",
            imap.LoginDisabled,
        ),
        (
            {b"LOGIN": b"TAG NO [UNAVAILABLE] try later\r\n"},
            b"* OK ready\r\n",
            "none",
            imap.LoginUnavailable,
        ),
        ({b"LOGIN": b""}, b"* OK ready\r\n", "none", imap.TimedOut),
    ],
)
async def test_each_refusal_has_its_own_words(
    user: User,
    answers: Mapping[bytes, bytes],
    greeting: bytes,
    mode: str,
    expected: type[imap.ImapFailure],
) -> None:
    async with scripted(answers, greeting) as server:
        failed = await _failure(user, port=server.port, tls=mode)
    assert type(failed) is expected
    assert PASSWORD not in str(failed)


async def test_what_a_server_says_is_cut_and_cleaned(user: User) -> None:
    answer = b"TAG NO \x1b[31m" + b"x" * 5000 + b"\r\n"
    async with scripted({b"LOGIN": answer}) as server:
        failed = await _failure(user, port=server.port, tls="none")
    assert "\x1b" not in str(failed)
    assert len(str(failed)) < 400


async def test_text_injected_before_tls_is_not_taken_for_the_servers(user: User) -> None:
    injected = b"TAG OK begin\r\n* CAPABILITY IMAP4rev1 X-EVIL"
    answers = {
        b"CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS\r\nTAG OK done\r\n",
        b"STARTTLS": injected,
    }
    async with scripted(answers) as server:
        failed = await _failure(user, port=server.port, tls="starttls")
        assert type(failed) is imap.AnswerUnreadable
        assert not any(b"LOGIN" in line for line in server.lines)


async def test_a_password_goes_in_plain_text_to_the_loopback_alone(
    user: User, middle: Between
) -> None:
    """Dovecot would take it: refusing is the client's job."""
    failed = await _failure(user, host="example.org", port=143, tls="none")
    assert type(failed) is imap.PlaintextRefused
    assert "a password goes unencrypted over loopback only" in str(failed)


async def test_a_host_that_only_seems_to_be_the_loopback_hears_no_password(user: User) -> None:
    """`localhost` may lead elsewhere: the address that answered counts."""
    from mailroom.imap.connection import _accept  # noqa: PLC0415

    own = _own_address()
    async with scripted(host=own) as server:
        connection = await _connected(own, server.port)
        login = user.login(port=server.port, tls="none")
        with pytest.raises(imap.PlaintextRefused):
            _accept(connection, await connection.greeting, login)
        assert server.lines == []


async def _connected(host: str, port: int) -> imap.Connection:
    connection = imap.Connection(f"{host}:{port}", 2)
    await connection.loop.create_connection(lambda: connection, host, port)
    return connection


def _own_address() -> str:
    """An address of this machine that is not the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address beside the loopback")
        return str(probe.getsockname()[0])


async def test_no_log_holds_a_password_at_any_level(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    """The library formats each command for a debug line; a quote would pass its scrubbing."""
    password = 'secret"with-quote'
    local.add_mail_user(user.servers, f"q-{user.address}", password)
    login = user.login(user=f"q-{user.address}", password=password)
    with caplog.at_level(logging.DEBUG):
        await imap.logout(await imap.connect(login, user.context))
    assert "with-quote" not in caplog.text


async def test_a_login_does_not_show_its_password(user: User) -> None:
    assert PASSWORD not in repr(user.login())


async def test_one_context_serves_all_connections(user: User) -> None:
    assert user.context.verify_mode == ssl.CERT_REQUIRED
    assert user.context.check_hostname
