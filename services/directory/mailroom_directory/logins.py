"""The logins of an account with their sealed passwords, and what a change means for these.

Invariant: a sealed password stays with the host and user that it was sealed for; whoever moves an
account to another host must know its password.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mailroom_directory.fields import FieldRefused
from mailroom_directory.server_urls import Login, Protocol


@dataclass(frozen=True)
class SealedLogin:
    """A login with its sealed password."""

    login: Login
    password: bytes = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What is to be done with an account's logins."""

    ask: tuple[Login, ...]
    """Need a password: they are new, move to another host or user, or get a new one."""
    keep: tuple[SealedLogin, ...]
    """Keep their sealed passwords, perhaps at another port."""


def plan(
    known: Mapping[Protocol, SealedLogin],
    given: Sequence[Login],
    dropped: Collection[Protocol],
    *,
    renew: bool,
) -> Plan:
    """What these new logins mean for those that are known; `renew` asks for all passwords anew.

    Raises FieldRefused if no login would be left.
    """
    wanted = {protocol: sealed.login for protocol, sealed in known.items()}
    wanted |= {login.protocol: login for login in given}
    wanted = {protocol: login for protocol, login in wanted.items() if protocol not in dropped}
    if not wanted:
        raise FieldRefused("--imap", "", "an account needs --imap, --smtp or both")
    ask, keep = [], []
    for protocol, login in wanted.items():
        sealed = known.get(protocol)
        if sealed is None or renew or _who(sealed.login) != _who(login):
            ask.append(login)
        else:
            keep.append(SealedLogin(login, sealed.password))
    return Plan(tuple(ask), tuple(keep))


def _who(login: Login) -> tuple[str, str]:
    return login.host, login.user
