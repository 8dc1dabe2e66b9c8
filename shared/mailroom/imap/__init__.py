"""IMAP4rev1 (RFC 3501): the one place that speaks to aioimaplib.

Invariant: nothing here changes a mail on the server, but `append`. Every function ends in bounded
time and raises an ImapFailure whose message a person understands. A `Connection` belongs to one
task; after a failure (see ImapFailure) `close` it and connect anew.
"""

from mailroom.imap.connection import Login, can_idle, close, connect, logout
from mailroom.imap.failures import (
    AnswerUnreadable,
    CertificateRefused,
    CommandRefused,
    ConnectionLost,
    ConnectRefused,
    ControlCharacter,
    FolderExists,
    FolderMissing,
    HostUnknown,
    IdleMissing,
    ImapFailure,
    LoginDisabled,
    LoginRefused,
    LoginUnavailable,
    MailGone,
    PlaintextRefused,
    StartTlsMissing,
    TimedOut,
    TlsFailed,
    Unreachable,
    connect_failure,
)
from mailroom.imap.folders import (
    ListedFolder,
    Opened,
    create_folder,
    examine,
    list_folders,
    select,
    sent_folder,
)
from mailroom.imap.listing import BATCH_BYTES, BODIES, Listed
from mailroom.imap.messages import (
    LISTED,
    PIECE,
    append,
    fetch_bodies,
    fetch_pieces,
    list_mails,
    search_header,
    search_uids,
    uids_at,
)
from mailroom.imap.protocol import Connection
from mailroom.imap.waiting import idle

__all__ = [
    "BATCH_BYTES",
    "BODIES",
    "LISTED",
    "PIECE",
    "AnswerUnreadable",
    "CertificateRefused",
    "CommandRefused",
    "ConnectRefused",
    "Connection",
    "ConnectionLost",
    "ControlCharacter",
    "FolderExists",
    "FolderMissing",
    "HostUnknown",
    "IdleMissing",
    "ImapFailure",
    "Listed",
    "ListedFolder",
    "Login",
    "LoginDisabled",
    "LoginRefused",
    "LoginUnavailable",
    "MailGone",
    "Opened",
    "PlaintextRefused",
    "StartTlsMissing",
    "TimedOut",
    "TlsFailed",
    "Unreachable",
    "append",
    "can_idle",
    "close",
    "connect",
    "connect_failure",
    "create_folder",
    "examine",
    "fetch_bodies",
    "fetch_pieces",
    "idle",
    "list_folders",
    "list_mails",
    "logout",
    "search_header",
    "search_uids",
    "select",
    "sent_folder",
    "uids_at",
]
