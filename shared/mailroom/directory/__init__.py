"""The one way into the directory from outside: its views, and the passwords that stand there."""

from mailroom.directory.model import Account, Folder, Mailbox, Server, TlsMode
from mailroom.directory.sealing import (
    KeyFileRefused,
    PasswordSealed,
    UnsealKeys,
    load_keys,
    load_seal_key,
    seal,
    unseal,
)
from mailroom.directory.snapshots import Snapshot, snapshot
from mailroom.directory.views import (
    OWN_SERVICES,
    account,
    account_with_passwords,
    accounts,
    accounts_with_passwords,
    mailboxes,
    may_send,
)

__all__ = [
    "OWN_SERVICES",
    "Account",
    "Folder",
    "KeyFileRefused",
    "Mailbox",
    "PasswordSealed",
    "Server",
    "Snapshot",
    "TlsMode",
    "UnsealKeys",
    "account",
    "account_with_passwords",
    "accounts",
    "accounts_with_passwords",
    "load_keys",
    "load_seal_key",
    "mailboxes",
    "may_send",
    "seal",
    "snapshot",
    "unseal",
]
