"""Whom a mail server must be, before it hears a password: TLS contexts, loopback, and the words.

Invariant: a certificate is always verified, against the system's authorities and those of
MAILROOM_TLS_CA_FILE, and its name against the host; plain text goes to the loopback alone.
"""

import ipaddress
import ssl
from functools import cache
from pathlib import Path


class AuthoritiesUnreadable(Exception):
    """MAILROOM_TLS_CA_FILE names no file with certificates."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"MAILROOM_TLS_CA_FILE is {str(path)!r}: {reason}; name a PEM file of certificates"
        )


@cache
def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context that verifies servers by the system's authorities and those in `ca_file` (PEM).

    One for the whole process, read once: to read all authorities takes 20 to 50 ms of processor
    time, as long as some mails take from end to end. Change nothing of it. Raises
    AuthoritiesUnreadable.
    """
    context = ssl.create_default_context()
    if ca_file is None:
        return context
    try:
        # Given to create_default_context, it would replace the system's authorities.
        context.load_verify_locations(ca_file)
    except ssl.SSLError as failed:
        raise AuthoritiesUnreadable(ca_file, failed.reason or "no certificate") from None
    except OSError as failed:
        raise AuthoritiesUnreadable(ca_file, failed.strerror or str(failed)) from None
    return context


def is_loopback(host: str) -> bool:
    """Whether this host is this machine itself, so that plain text stays inside it.

    Of names, only `localhost` is (RFC 6761 section 6.3): any other is somebody's DNS to say.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
