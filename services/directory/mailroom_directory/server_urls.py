"""The URLs that people name mail servers by.

    imaps://USER@HOST[:993]        smtps://USER@HOST[:465]        TLS from the first byte
    imap://USER@HOST[:143]         smtp://USER@HOST[:587]         STARTTLS, or no login
    imap+plain://USER@HOST[:143]   smtp+plain://USER@HOST[:25]    plain text, on the loopback alone

Invariant: a password in a URL is refused, and not repeated; plain text never leaves this machine.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from mailroom.directory.model import TlsMode
from mailroom.tls import is_loopback
from mailroom_directory import fields
from mailroom_directory.fields import FieldRefused

Protocol = Literal["imap", "smtp"]

_SCHEMES: dict[Protocol, dict[str, tuple[TlsMode, int]]] = {
    "imap": {
        "imaps": ("implicit", 993),
        "imap": ("starttls", 143),
        "imap+plain": ("none", 143),
    },
    "smtp": {
        "smtps": ("implicit", 465),
        "smtp": ("starttls", 587),
        "smtp+plain": ("none", 25),
    },
}
_HOST = re.compile(r"(?!.{254})[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")

_PASSWORD = re.compile(r"(://.*?):.*@")
"""What stands between the first colon after the scheme and the last @."""


@dataclass(frozen=True)
class Login:
    """Where and as whom to log in: a server without its password."""

    protocol: Protocol
    host: str
    port: int
    tls: TlsMode
    user: str


def login(protocol: Protocol, url: str, address: str) -> Login:
    """Read a server's URL; without a user it is the account's address. Raises FieldRefused."""
    field = f"--{protocol}"
    scheme = _scheme(field, url, protocol)
    parts = _split(field, url)
    tls, default_port = _SCHEMES[protocol][scheme]
    host, port = _host(field, url, parts), _port(field, url, parts) or default_port
    if tls == "none" and not is_loopback(host):
        raise FieldRefused(
            field,
            url,
            f"plain text only to localhost, 127.0.0.1 or ::1; use {protocol}s:// or {protocol}://",
        )
    user = fields.line(unquote(parts.username or ""), field) or address
    return Login(protocol, host, port, tls, user)


def url_of(server: Login) -> str:
    """The URL that `login` reads back."""
    schemes = _SCHEMES[server.protocol]
    scheme = next(name for name, (mode, _) in schemes.items() if mode == server.tls)
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{scheme}://{quote(server.user, safe='@+')}@{host}:{server.port}"


def _scheme(field: str, url: str, protocol: Protocol) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES[protocol]:
        begin = ", ".join(f"{name}://" for name in _SCHEMES[protocol])
        raise FieldRefused(field, scheme if separator else "…", f"begin with {begin}")
    return scheme


def _split(field: str, url: str) -> SplitResult:
    # urlsplit drops tabs and line ends without a word.
    if not url.isprintable() or " " in url:
        raise FieldRefused(field, "…", "has a blank or a control character; write %20 in a user")
    # Before splitting: a / or # in a password would make it part of a path.
    if _PASSWORD.search(url):
        raise FieldRefused(
            field,
            _PASSWORD.sub(r"\1:…@", url),
            "leave the password out, others can see it there (change it now); it is asked for, "
            "or comes by --password-stdin or --password-file; a colon in a user is %3A",
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise FieldRefused(field, "…", "is no URL; give one like imaps://user@host:993") from None
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise FieldRefused(
            field, url, "leave out what stands behind the port, as in imaps://user@host:993"
        )
    return parts


def _host(field: str, url: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host.isascii():
        raise FieldRefused(field, url, "write the host in its xn-- form")
    if _HOST.fullmatch(host) or _is_ip(host):
        return host
    raise FieldRefused(field, url, "names no host; give one like imaps://user@host:993")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(field: str, url: str, parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        raise FieldRefused(field, url, "give a port from 1 to 65535") from None
    if port == 0:
        raise FieldRefused(field, url, "give a port from 1 to 65535")
    return port
