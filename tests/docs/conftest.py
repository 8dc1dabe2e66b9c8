"""Where readers follow the pages: servers for the guides alone, and an installation for each page
of a service."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import local
from deploy.local.ports import free_ports
from tests.docs.pages import ROOT
from tests.docs.terminal import Terminal, plain_environment
from tests.installation import Broker, Database, installed

STAND_INS = Path(__file__).parent / "stand_ins"
"""Programs that a reader has, and that must find the private servers here: see there."""
PASSWORD = "service-secret"
CA = "NODE_EXTRA_CA_CERTS"
PEOPLE = ("service@example.com", "anna@customer.example")
"""Who has a mail account on the private servers."""


def replaced(servers: local.Servers, folder: Path) -> list[tuple[str, str]]:
    """What the pages say, and what is there in its stead. The one place where a page is changed."""
    rows, events = servers.postgresql, servers.rabbitmq
    imap, smtp = f"localhost:{servers.dovecot.imaps}", f"localhost:{servers.postfix.submissions}"
    first, second = free_ports(2)
    return [
        (r"postgresql://postgres@db\.example\.com/postgres", rows.dsn),
        (r"@db\.example\.com\b", f"@{rows.host}:{rows.port}"),
        (r"@mq\.example\.com\b", f"@{events.host}:{events.port}"),
        (r"(imaps://(?:\S+@)?)(?:imap|mail)\.example\.com\b", rf"\g<1>{imap}"),
        (r"(smtps://(?:\S+@)?)(?:smtp|mail)\.example\.com\b", rf"\g<1>{smtp}"),
        (r"127\.0\.0\.1:9101\b", f"127.0.0.1:{first}"),
        (r"127\.0\.0\.1:9102\b", f"127.0.0.1:{second}"),
        (r"/etc/mailroom\b", f"{folder}/etc"),
        (r"/var/lib/mailroom\b", f"{folder}/lib"),
        (r"~/mailroom\b", str(ROOT)),
        # Not into the environment that the tests run in, and without a registry.
        (
            r"^pip install --no-deps (\S+)$",
            rf"pip install -q --no-deps --no-build-isolation -t {folder}/site \g<1>",
        ),
        # The terminal asks a person for passwords.
        (
            r"^(mailroom account (?:add|test|change .*--password\b)(?!.*--password-).*)$",
            rf"echo {PASSWORD} | \g<1> --password-stdin",
        ),
    ]


@pytest.fixture(scope="module")
def guide_servers() -> Iterator[local.Servers]:
    """All four servers, with nothing in them: the guides install on them."""
    folder = Path(tempfile.mkdtemp(prefix="mailroom-docs-"))
    try:
        with local.running(folder, fsync=False) as servers:
            yield servers
    finally:
        local.remove(folder)


@pytest.fixture(scope="module")
def reader(
    guide_servers: local.Servers, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    """Who reads the guides, one after another, and keeps what was made on the way."""
    terminal = _terminal(guide_servers, tmp_path_factory.mktemp("reader"), programs)
    yield terminal
    terminal.leave()


@pytest.fixture
def operator(
    servers: local.Servers, database: Database, broker: Broker, programs: Path, tmp_path: Path
) -> Iterator[Terminal]:
    """Who reads the page of a service, with a new installation of which nothing runs."""
    operated = installed(servers, database, broker, tmp_path)
    terminal = _terminal(servers, tmp_path, programs, **operated.environment)
    yield terminal
    terminal.leave()


def _terminal(servers: local.Servers, folder: Path, programs: Path, **settings: str) -> Terminal:
    for address in PEOPLE:
        local.add_mail_user(servers, address, PASSWORD)
    path = f"{programs}:{STAND_INS}:{Path(sys.executable).parent}:/usr/bin:/bin"
    # Who reads behind a proxy has told node of its authority.
    trusted = {name: os.environ[name] for name in (CA,) if name in os.environ}
    settings = {
        **trusted,
        "PYTHONPATH": f"{ROOT}:{folder}/site",
        "SERVERS": str(servers.folder),
        "MAILROOM_TLS_CA_FILE": str(servers.ca_file),
        **settings,
    }
    plain = plain_environment(folder, PATH=path, **settings)
    return Terminal(servers, plain, replaced(servers, folder))
