"""Sealing passwords to a public key, and opening them with a private ring (NaCl sealed boxes).

Invariant: what seals cannot open, and a password opens only for the host and user that it was
sealed for. No exception, repr or log line here holds a password or a key.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from mailroom.directory.model import Server


@dataclass(frozen=True)
class UnsealKeys:
    """The private ring, newest key first: passwords sealed before a rotation still open."""

    ring: tuple[PrivateKey, ...] = field(repr=False)


class KeyFileRefused(Exception):
    """A key file that cannot be used; says which, and what to do."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path = path
        super().__init__(f"key file {path}: {remedy}")


class PasswordSealed(Exception):
    """No key of the ring opens this password, or it was sealed for another host or user."""

    def __init__(self, host: str, user: str, why: str) -> None:
        self.host, self.user = host, user
        super().__init__(
            f"the password of {user} at {host} cannot be opened: {why}; "
            "give it again with `mailroom account change`"
        )


def load_seal_key(path: Path) -> PublicKey:
    """The public key that passwords are sealed to. Raises KeyFileRefused."""
    keys = _read_keys(path)
    if len(keys) != 1:
        raise KeyFileRefused(
            path, f"holds {len(keys)} keys; the public key stands alone, in line 1"
        )
    return PublicKey(keys[0])


def load_keys(path: Path) -> UnsealKeys:
    """The private ring: one key a line in base64, newest first. Raises KeyFileRefused."""
    keys = _read_keys(path)
    if not keys:
        raise KeyFileRefused(path, "is empty; make keys with `mailroom account keys FOLDER`")
    return UnsealKeys(tuple(PrivateKey(key) for key in keys))


def _read_keys(path: Path) -> list[bytes]:
    try:
        lines = path.read_text("ascii").split()
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except OSError as failure:
        remedy = f"{failure.strerror}; make keys with `mailroom account keys FOLDER`"
        raise KeyFileRefused(path, remedy) from None
    except (binascii.Error, UnicodeDecodeError):
        # The cause would show the line, which may be a key.
        raise KeyFileRefused(path, "holds a line that is not base64") from None
    if any(len(key) != PrivateKey.SIZE for key in keys):
        raise KeyFileRefused(path, f"holds a line that is not {PrivateKey.SIZE} bytes in base64")
    return keys


def seal(host: str, user: str, password: str, key: PublicKey) -> bytes:
    """Seal a password for this host and user; what seals cannot open."""
    bound = json.dumps({"host": host, "user": user, "password": password})
    return SealedBox(key).encrypt(bound.encode())


def unseal(server: Server, keys: UnsealKeys) -> str:
    """The password of a server. Raises PasswordSealed.

    It was sealed together with host and user, and opens for these alone: who may write the
    directory, but not read passwords, must not learn one by pointing an account at a host of his.
    """
    if not server.sealed_password:
        raise PasswordSealed(server.host, server.user, "this database role may not read it")
    for key in keys.ring:
        try:
            bound = json.loads(SealedBox(key).decrypt(server.sealed_password))
        except CryptoError:
            continue
        if (bound["host"], bound["user"]) != (server.host, server.user):
            raise PasswordSealed(server.host, server.user, "it was sealed for another login")
        return str(bound["password"])
    raise PasswordSealed(server.host, server.user, "no key of the ring fits")
