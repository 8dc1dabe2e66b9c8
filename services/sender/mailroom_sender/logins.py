"""Logging in: the accounts' passwords, opened when one logs in and no earlier, and when to rest."""

from datetime import timedelta

from mailroom import directory
from mailroom.directory import KeyFileRefused, PasswordSealed, Server
from mailroom.imap import Login
from mailroom_sender.settings import SenderSettings

REST = timedelta(minutes=1)
REFUSED_REST = timedelta(minutes=15)
"""Many servers lock out who tries a wrong password again and again."""


class NoLogin(Exception):
    """There is no password to log in with; the message says what to do."""


def login(settings: SenderSettings, server: Server) -> Login:
    """How to log in to a server, by SMTP and IMAP alike. Raises NoLogin.

    The keys are read each time, so that a new one needs no restart.
    """
    try:
        keys = directory.load_keys(settings.unseal_keys_file)
        password = directory.unseal(server, keys) if server.user else ""
    except (KeyFileRefused, PasswordSealed) as closed:
        raise NoLogin(str(closed)) from None
    return Login(server.host, server.port, server.tls, server.user, password)


def rest_after(*, refused: bool) -> timedelta:
    """How long to leave a server alone that could not be reached, or that refused the login."""
    return REFUSED_REST if refused else REST
