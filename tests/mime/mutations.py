"""Mails broken at random, by a seed: what a property of reading is tried on."""

import random
from collections.abc import Iterator
from pathlib import Path

MAILS = Path(__file__).parent / "mails"

PIECES = (
    b"=?utf-8?B?", b"?=", b"=?iso-2022-jp?Q?=1B$B", b"\0", b"\xff\xfe", b"\r\n\r\n", b"\n", b"\r",
    b"--", b"Content-Type: multipart/mixed; boundary=", b"Content-Transfer-Encoding: base64\n",
    b"charset=utf-7", b"charset=utf-16", b'charset="', b"(", b")", b"<", b">", b'"', b";", b":",
    b",", b"=", b"filename*0*=", b"''", b"\xc3", b"begin 644 x\n", b"message/rfc822", b"%", b"*",
    b"multipart/report", b"Final-Recipient: ", b"\x1b$B", b"+ADw-", b"\xed\xa0\x80", b"[#1-a]",
    b"Date: Mon, 99 Foo 20000 99:99:99 +9999\n", b"References: <\n", b"application/pkcs7-mime",
)  # fmt: skip


def seeds(*folders: Path) -> list[bytes]:
    """Mails of at most 60 KB in our folder and the given ones, in a stable order."""
    files = [path for folder in (MAILS, *folders) for path in sorted(folder.rglob("*"))]
    mails = [path for path in files if path.is_file() and path.suffix in {".eml", ".txt"}]
    return [path.read_bytes() for path in mails if path.stat().st_size < 60_000]


def mutated(mails: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` mails, each one of `mails` after up to a dozen random changes."""
    chance = random.Random(seed)  # noqa: S311 (repeatable, on purpose)
    for _ in range(count):
        broken = bytearray(chance.choice(mails))
        for _ in range(chance.randrange(1, 12)):
            _break(broken, mails, chance)
        yield bytes(broken)


def _break(mail: bytearray, mails: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(mail) + 1)
    kind = chance.random()
    if kind < 0.4:
        mail[at:at] = chance.choice(PIECES)
    elif kind < 0.55:
        del mail[at : at + chance.randrange(1, 80)]
    elif kind < 0.7:
        mail[at : at + 1] = bytes([chance.randrange(256)])
    elif kind < 0.85:
        start = chance.randrange(len(mail) + 1)
        mail[at:at] = mail[start : start + chance.randrange(300)]
    else:
        other = chance.choice(mails)
        start = chance.randrange(len(other) + 1)
        mail[at:at] = other[start : start + chance.randrange(800)]
