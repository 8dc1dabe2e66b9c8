"""Servers of one's own, each at the end of a line that a test can disturb.

Invariant: services reach them through the proxies alone; tests look at them directly.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy import local
from tests.faults.proxy import Proxy, proxied


@dataclass(frozen=True)
class OwnServers:
    """All four, and the proxies to them; `imap` and `smtp` lead to plain text, with logins."""

    servers: local.Servers
    amqp: Proxy
    postgresql: Proxy
    imap: Proxy
    smtp: Proxy

    @property
    def proxies(self) -> list[Proxy]:
        """All of them."""
        return [self.amqp, self.postgresql, self.imap, self.smtp]

    def proxy_of(self, server: local.ServerName) -> Proxy:
        """The line to a server: of Dovecot IMAP, of Postfix submission."""
        by_name = zip(("rabbitmq", "postgresql", "dovecot", "postfix"), self.proxies, strict=True)
        return dict(by_name)[server]

    def through_proxies(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An installation's environment, with broker and database at the end of their lines."""
        there = {
            f"@{server.host}:{server.port}/": f"@127.0.0.1:{proxy.port}/"
            for server, proxy in (
                (self.servers.rabbitmq, self.amqp),
                (self.servers.postgresql, self.postgresql),
            )
        }
        return {name: _moved(value, there) for name, value in environment.items()}

    def heal(self) -> None:
        """Every server runs and every line is whole."""
        for name in local.ALL:
            if local.is_running(self.servers, name):
                local.thaw(self.servers, name)
        # Dovecot comes before Postfix, which greets nobody without it.
        for name in sorted(local.ALL):
            local.start(self.servers, name)
        for proxy in self.proxies:
            proxy.heal()


def _moved(url: str, there: Mapping[str, str]) -> str:
    for old, new in there.items():
        url = url.replace(old, new)
    return url


@contextmanager
def own_servers(folder: Path) -> Iterator[OwnServers]:
    """Start them, with proxies."""
    with (
        local.running(folder) as servers,
        proxied(
            "127.0.0.1",
            servers.rabbitmq.port,
            servers.postgresql.port,
            servers.dovecot.imap,
            servers.postfix.smtp,
        ) as proxies,
    ):
        yield OwnServers(servers, *proxies)
