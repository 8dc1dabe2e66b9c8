"""A user at the real Dovecot, and connections of ours to it."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from deploy import local
from mailroom import imap, tls
from tests.imap.between import Between, between
from tests.local.mail import PASSWORD


@dataclass(frozen=True)
class User:
    """A mail user, and how to log in as such."""

    servers: local.Servers
    address: str
    context: ssl.SSLContext

    def login(self, **changes: object) -> imap.Login:
        """Over implicit TLS, unless changed."""
        usual = {"host": "localhost", "port": self.servers.dovecot.imaps, "tls": "implicit"}
        usual |= {"user": self.address, "password": PASSWORD}
        return imap.Login(**(usual | changes))  # type: ignore[arg-type]


@pytest.fixture
def user(dovecot: local.Servers) -> User:
    """A mail user with empty folders."""
    address = f"user-{uuid4().hex[:8]}@office.test"
    local.add_mail_user(dovecot, address, PASSWORD)
    return User(dovecot, address, tls.client_context(dovecot.ca_file))


@pytest.fixture
async def connection(user: User) -> AsyncIterator[imap.Connection]:
    """Logged in as the user."""
    made = await imap.connect(user.login(), user.context)
    yield made
    await imap.logout(made)


@pytest.fixture
async def middle(dovecot: local.Servers) -> AsyncIterator[Between]:
    """Between the client and Dovecot."""
    async with between(dovecot.dovecot.host, dovecot.dovecot.imap) as made:
        yield made


@pytest.fixture
async def watched(user: User, middle: Between) -> AsyncIterator[imap.Connection]:
    """Logged in as the user, through the man in the middle; it has 2 seconds for an answer."""
    made = await imap.connect(user.login(port=middle.port, tls="none"), user.context, 2)
    yield made
    imap.close(made)
