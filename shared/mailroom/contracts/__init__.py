"""The events and commands of Mailroom: the only thing that its services know of each other."""

from mailroom.contracts.contract import (
    ANYONE,
    Address,
    Contract,
    Contracts,
    ObjectRef,
    Part,
    RecordRef,
)
from mailroom.contracts.directory import AccountFetch, AccountObserved, DirectoryChanged
from mailroom.contracts.incoming import (
    Automatic,
    FolderRole,
    MailboxKind,
    MailFetch,
    MailReceived,
    MailRouted,
    RoutedAttachment,
)
from mailroom.contracts.outgoing import (
    INLINE_LIMIT,
    MAIL_HEADER,
    Answers,
    FieldError,
    MailBounced,
    MailCancel,
    MailCancelled,
    MailFailed,
    MailFiled,
    MailRejected,
    MailSend,
    MailSent,
    Recipient,
    SendAttachment,
)

CONTRACTS: Contracts = {
    contract.name: contract
    for contract in (
        MailReceived,
        MailFetch,
        MailRouted,
        MailSend,
        MailCancel,
        MailSent,
        MailFiled,
        MailFailed,
        MailRejected,
        MailCancelled,
        MailBounced,
        DirectoryChanged,
        AccountFetch,
        AccountObserved,
    )
}
"""Every contract by its name."""

__all__ = [
    "ANYONE",
    "CONTRACTS",
    "INLINE_LIMIT",
    "MAIL_HEADER",
    "AccountFetch",
    "AccountObserved",
    "Address",
    "Answers",
    "Automatic",
    "Contract",
    "Contracts",
    "DirectoryChanged",
    "FieldError",
    "FolderRole",
    "MailBounced",
    "MailCancel",
    "MailCancelled",
    "MailFailed",
    "MailFetch",
    "MailFiled",
    "MailReceived",
    "MailRejected",
    "MailRouted",
    "MailSend",
    "MailSent",
    "MailboxKind",
    "ObjectRef",
    "Part",
    "Recipient",
    "RecordRef",
    "RoutedAttachment",
    "SendAttachment",
]
