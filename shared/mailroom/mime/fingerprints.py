"""What tells that two arrivals are one mail.

Invariant: the same mail through two accounts has one fingerprint, though each way adds trace
headers; a forged Message-ID over other content has another.
"""

import hashlib
from typing import Final

from mailroom.mime.model import Mail

# Fields of the sender's own making, for mails without Message-ID: whatever else a mail carries
# may have been added on its way (RFC 5321 section 4.4, RFC 8601, spam filters, lists).
_CONTENT: Final = ("subject", "to", "cc", "reply-to", "in-reply-to", "references")


def fingerprint(mail: Mail) -> str:
    """64 hex digits, from Message-ID, From, Date and a hash of the text.

    Without Message-ID all that the sender wrote counts: those, the other fields of its making,
    HTML and attachments (name, type, size). White space does not count: relays fold anew.
    """
    parts = [
        mail.message_id or "",
        " ".join(address.address.lower() for address in mail.from_),
        mail.date.isoformat() if mail.date else "",
        _hash(mail.text),
    ]
    if mail.message_id is None:
        parts += _content(mail)
    return _hash("\x00".join(parts), keep_blanks=True)


def _content(mail: Mail) -> list[str]:
    named = [f"{name}:{value}" for name, value in mail.headers if name.lower() in _CONTENT]
    files = [f"{a.filename}:{a.type}:{a.size}" for a in mail.attachments]
    return [_hash("\n".join(sorted(named))), _hash(mail.html), _hash("\n".join(files))]


def _hash(text: str, *, keep_blanks: bool = False) -> str:
    kept = text if keep_blanks else "".join(text.split())
    return hashlib.sha256(kept.encode("utf-8", "replace")).hexdigest()
