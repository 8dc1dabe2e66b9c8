"""Reading any mail and composing ours: one knowledge of the RFCs, two users."""

from mailroom.mime.compose import compose, stamp
from mailroom.mime.fingerprints import fingerprint
from mailroom.mime.html import text_of
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
from mailroom.mime.read import part, read
from mailroom.mime.stored import from_json, to_json
from mailroom.mime.writing import HeaderRefused

__all__ = [
    "Action",
    "Address",
    "Attachment",
    "Auto",
    "Draft",
    "File",
    "HeaderRefused",
    "Mail",
    "Recipient",
    "Report",
    "compose",
    "fingerprint",
    "from_json",
    "part",
    "read",
    "stamp",
    "text_of",
    "to_json",
]
