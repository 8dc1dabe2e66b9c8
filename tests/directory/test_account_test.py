import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from deploy import local
from tests.directory.conftest import PASSWORD, Mailroom, Refused
from tests.directory.scripted import scripted

USER = "service@example.com"


@pytest.fixture(scope="module")
def mail_user(servers: local.Servers) -> local.Servers:
    local.add_mail_user(servers, USER, PASSWORD)
    return servers


@pytest.fixture
def tried(mailroom: Mailroom, mail_user: local.Servers) -> Mailroom:
    """Commands that trust the servers' authority, and a mailbox to feed."""
    mailroom.environment["MAILROOM_TLS_CA_FILE"] = str(mail_user.ca_file)
    mailroom("mailbox", "add", "service", "--address", USER)
    return mailroom


def add(mailroom: Mailroom, *options: str, password: str = PASSWORD, name: str = "service") -> str:
    return mailroom(
        "account", "add", name, "--mailbox", "service", "--address", USER,
        "--password-stdin", *options, stdin=password,
    )  # fmt: skip


def urls(servers: local.Servers) -> tuple[str, ...]:
    imap_url = f"imaps://{USER}@localhost:{servers.dovecot.imaps}"
    smtp_url = f"smtps://{USER}@localhost:{servers.postfix.submissions}"
    return ("--imap", imap_url, "--smtp", smtp_url)


def test_an_account_whose_logins_work_is_stored_with_its_password_sealed(
    tried: Mailroom, mail_user: local.Servers
) -> None:
    assert add(tried, *urls(mail_user)) == "account service added\n"
    shown = tried("account", "show", "service") + tried("account", "show", "service", "--json")
    assert PASSWORD not in shown


def test_a_test_logs_in_and_lists_folders_with_their_use(
    tried: Mailroom, mail_user: local.Servers
) -> None:
    add(tried, *urls(mail_user))
    said = tried("account", "test", "service", "--password-stdin", stdin=PASSWORD).splitlines()
    assert said[0] == urls(mail_user)[1]
    assert said[1] == f"  ok       logged in as {USER}"
    assert said[2].startswith("  ok       folders: ")
    assert "INBOX (inbox)" in said[2]
    assert "Sent (sent)" in said[2]
    assert said[3] == urls(mail_user)[3]
    assert said[4].startswith(f"  ok       logged in as {USER}; takes mails of up to")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_starttls_and_plain_text_on_the_loopback_log_in_too(
    tried: Mailroom, mail_user: local.Servers, host: str
) -> None:
    smtp = ("--smtp", f"smtp://{host}:{mail_user.postfix.submission}")
    add(tried, "--imap", f"imap://{host}:{mail_user.dovecot.imap}", *smtp)
    tried("account", "change", "service", "--imap", f"imap+plain://{host}:{mail_user.dovecot.imap}")
    tried("account", "test", "service", "--password-stdin", stdin=PASSWORD)


@pytest.mark.parametrize("server", ["--imap", "--smtp"])
def test_a_wrong_password_is_said_and_nothing_is_stored(
    tried: Mailroom, mail_user: local.Servers, server: str
) -> None:
    known = urls(mail_user)
    with pytest.raises(Refused) as refused:
        add(tried, server, known[known.index(server) + 1], password="hunter3")
    assert f"wrong user or password for {USER}; the server says: " in refused.value.line
    assert refused.value.line.endswith("; --no-test stores it all the same\n")
    assert refused.value.exit_code == 2
    assert "hunter3" not in refused.value.line
    assert tried("account", "list") == "none\n"


def test_a_second_line_is_the_password_for_smtp(
    tried: Mailroom, mail_user: local.Servers, tmp_path: Path
) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"{PASSWORD}\nhunter3\n")
    with pytest.raises(Refused, match=rf"--smtp .* wrong user or password for {USER}"):
        tried(
            "account", "add", "service", "--mailbox", "service", "--address", USER,
            *urls(mail_user), "--password-file", str(file),
        )  # fmt: skip


def test_an_authority_nobody_trusts_is_said(tried: Mailroom, mail_user: local.Servers) -> None:
    del tried.environment["MAILROOM_TLS_CA_FILE"]
    for server, url in [urls(mail_user)[:2], urls(mail_user)[2:]]:
        with pytest.raises(Refused, match=r"certificate refused: .*MAILROOM_TLS_CA_FILE"):
            add(tried, server, url)


@pytest.fixture
def foreign(tried: Mailroom, tmp_path: Path) -> ssl.SSLContext:
    """A trusted certificate for another host."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.example.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tried.environment["MAILROOM_TLS_CA_FILE"] = str(tmp_path / "ca.pem")
    return context


@pytest.mark.parametrize("scheme", ["imaps", "smtps"])
def test_a_certificate_for_another_host_is_said(
    tried: Mailroom, foreign: ssl.SSLContext, scheme: str
) -> None:
    with (
        scripted(b"* OK", {}, foreign) as server,
        pytest.raises(Refused, match=r"certificate refused: .*localhost.*check the server's name"),
    ):
        add(tried, f"--{scheme[:4]}", f"{scheme}://localhost:{server.port}")
    assert server.told == []


@pytest.mark.parametrize("scheme", ["imaps", "smtps"])
def test_a_port_where_nothing_listens_is_said(tried: Mailroom, scheme: str) -> None:
    with scripted(b"", {}) as gone:
        pass
    with pytest.raises(Refused, match="connection refused: nothing listens there, check the port"):
        add(tried, f"--{scheme[:4]}", f"{scheme}://localhost:{gone.port}")


@pytest.mark.parametrize("scheme", ["imaps", "smtps"])
def test_a_host_that_does_not_exist_is_said(tried: Mailroom, scheme: str) -> None:
    with pytest.raises(Refused, match="no such host: check the server's name"):
        add(tried, f"--{scheme[:4]}", f"{scheme}://mail.example.invalid")


def test_a_port_that_speaks_no_tls_is_said(tried: Mailroom, mail_user: local.Servers) -> None:
    for server, url in [
        ("--imap", f"imaps://localhost:{mail_user.dovecot.imap}"),
        ("--smtp", f"smtps://localhost:{mail_user.postfix.submission}"),
    ]:
        with pytest.raises(Refused, match=r"no TLS: .*check port and TLS mode"):
            add(tried, server, url)


IMAP_WITHOUT = {
    b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n%TAG% OK",
    b"LOGIN": b"%TAG% OK",
    b"LIST": b'* LIST () "/" INBOX\r\n%TAG% OK',
    b"LOGOUT": b"* BYE\r\n%TAG% OK",
}
SMTP_WITHOUT = {b"EHLO": b"250 PIPELINING", b"AUTH": b"235 ok", b"QUIT": b"221 bye"}


def test_a_server_without_idle_or_a_sent_folder_is_noted_and_taken(tried: Mailroom) -> None:
    with scripted(b"* OK hello", IMAP_WITHOUT) as server:
        add(tried, "--imap", f"imap+plain://localhost:{server.port}")
        said = tried("account", "test", "service", "--password-stdin", stdin=PASSWORD)
    assert "note     no IDLE: new mail is found by interval or calendar" in said
    assert "note     folder 'Sent' for sent mail is not there; it is made" in said


def test_names_that_a_server_gives_its_folders_cannot_drive_the_terminal(tried: Mailroom) -> None:
    turning = b'* LIST () "/" INBOX\r\n* LIST () "/" "a&IC4-b"\r\n%TAG% OK'
    with scripted(b"* OK hello", {**IMAP_WITHOUT, b"LIST": turning}) as server:
        add(tried, "--imap", f"imap+plain://localhost:{server.port}")
        said = tried("account", "test", "service", "--password-stdin", stdin=PASSWORD)
    assert "folders: INBOX (inbox), a·b" in said


def test_without_starttls_no_password_is_sent(tried: Mailroom) -> None:
    for scheme, greeting, answers in [
        ("imap", b"* OK hello", IMAP_WITHOUT),
        ("smtp", b"220 hello", {**SMTP_WITHOUT, b"EHLO": b"250-me\r\n250 AUTH PLAIN"}),
    ]:
        with (
            scripted(greeting, answers) as server,
            pytest.raises(Refused, match="offers no STARTTLS: use TLS mode implicit"),
        ):
            add(tried, f"--{scheme}", f"{scheme}://localhost:{server.port}")
        assert not [line for line in server.told if b"LOGIN" in line or b"AUTH" in line]


def test_a_wrong_password_is_tried_once_however_many_ways_smtp_offers(tried: Mailroom) -> None:
    answers = {
        b"EHLO": b"250-me\r\n250 AUTH CRAM-MD5 PLAIN LOGIN",
        b"AUTH": b"535 5.7.8 no",
        b"QUIT": b"221 bye",
    }
    with (
        scripted(b"220 hello", answers) as server,
        pytest.raises(Refused, match=r"wrong user or password .* the server says: 5\.7\.8 no"),
    ):
        add(tried, "--smtp", f"smtp+plain://localhost:{server.port}")
    assert len([line for line in server.told if b"AUTH" in line]) == 1


@pytest.mark.parametrize(
    ("greeting", "answers", "said"),
    [
        (b"554 go away", {}, "the server says: 554 go away"),
        (b"220 hello", SMTP_WITHOUT, "takes no password here"),
        (
            b"220 hello",
            {b"EHLO": b"250-me\r\n250 AUTH PLAIN", b"AUTH": b"454 4.7.0 later"},
            "login is not possible just now; the server says: 4.7.0 later",
        ),
    ],
)
def test_what_an_smtp_server_says_is_passed_on(
    tried: Mailroom, greeting: bytes, answers: dict[bytes, bytes], said: str
) -> None:
    with scripted(greeting, answers) as server, pytest.raises(Refused, match=said):
        add(tried, "--smtp", f"smtp+plain://localhost:{server.port}")


def test_a_folder_that_is_not_there_is_said(tried: Mailroom, mail_user: local.Servers) -> None:
    with pytest.raises(Refused, match="there is no folder 'Nowhere'; choose of those listed"):
        add(tried, *urls(mail_user), "--folder", "Nowhere")


def test_moving_an_account_asks_for_its_password_and_tries_it(
    tried: Mailroom, mail_user: local.Servers
) -> None:
    add(tried, *urls(mail_user))
    moved = ("account", "change", "service", "--imap", urls(mail_user)[1].replace("local", "other"))
    with pytest.raises(Refused, match="no terminal to ask at"):
        tried(*moved)
    with pytest.raises(Refused, match="no such host"):
        tried(*moved, "--password-stdin", stdin=PASSWORD)
    assert tried.shows("account", "service")["imap"] == urls(mail_user)[1]


def test_a_terminal_is_asked_for_the_password_without_showing_it(
    tried: Mailroom, mail_user: local.Servers
) -> None:
    """`script` gives the command a terminal of its own."""
    arguments = " ".join(
        ["account", "add", "service", "--mailbox", "service", "--address", USER, *urls(mail_user)]
    )
    command = f"{sys.executable} -c 'from mailroom.cli import main; main()' {arguments}"
    prompt = f"Password of {USER} at localhost: "
    with subprocess.Popen(
        ["script", "-qec", command, "/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**tried.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    ) as running:
        assert running.stdin
        assert running.stdout
        # What is typed before the prompt is thrown away by it.
        assert running.stdout.read(len(prompt)).decode() == prompt
        running.stdin.write(f"{PASSWORD}\n".encode())
        running.stdin.flush()
        assert running.stdout.read().split() == b"account service added".split()
    assert running.returncode == 0
    assert tried.shows("account", "service")["imap"] == urls(mail_user)[1]
