"""Reading any mail and composing ours: one knowledge of the RFCs, two users."""

from mailroom.mime.model import (
    Action,
    Address,
    Attachment,
    Auto,
    Draft,
    File,
    Mail,
    Recipient,
    Report,
)

__all__ = [
    "Action",
    "Address",
    "Attachment",
    "Auto",
    "Draft",
    "File",
    "Mail",
    "Recipient",
    "Report",
]
