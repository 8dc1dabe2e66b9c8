"""The process that reads mails: `python -m mailroom_router.reader`, asked through its stdin.

Invariant: one request, one answer, in order, and an end when the asker ends. A request is a mail's
size (8 bytes, big-endian) and its bytes; an answer is its fingerprint in a line, then its JSON
without text and HTML, then the whole, each with its size before it. It holds nothing and opens
nothing: it may be killed at any time.
"""

import hashlib
import signal
import sys
from dataclasses import replace
from typing import BinaryIO

from mailroom import memory, mime
from mailroom.mime import Mail


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Read mails until `requests` ends."""
    while size := requests.read(8):
        raw = requests.read(int.from_bytes(size))
        mail = mime.read(raw)
        answers.write(f"{fingerprint(mail, raw)}\n".encode())
        for said in (replace(mail, text="", html=""), mail):
            parsed = mime.to_json(said)
            answers.write(len(parsed).to_bytes(8))
            answers.write(parsed)
        answers.flush()


def fingerprint(mail: Mail, raw: bytes) -> str:
    """The mail's fingerprint; of one in which nothing could be read, the hash of its bytes.

    Without that all unreadable mails would be one mail, and the second would be lost.
    """
    said = (mail.message_id, mail.from_, mail.subject, mail.text, mail.html, mail.attachments)
    return mime.fingerprint(mail) if any(said) else hashlib.sha256(raw).hexdigest()


if __name__ == "__main__":
    # A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the router still
    # finishes what it has in hand, and then this process sees the end of its requests.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    memory.give_back_soon()
    serve(sys.stdin.buffer, sys.stdout.buffer)
