"""winmail.dat (MS-OXTNEF) unpacked, in a process of its own that dies at its limits.

The library loops as often as four bytes of the file tell it to, so nothing less than a killable
process bounds it. Invariant: the caller waits `SECONDS` at most and gets nothing of a bad file.
"""

import json
import logging
import resource
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 33_554_432  # bytes
SECONDS: Final = 1
MEMORY: Final = 268_435_456  # bytes of address space of the process
MOST_FILES: Final = 100

TYPES: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Text, HTML and files (name, content) of a winmail.dat."""

    text: str
    html: str
    files: tuple[tuple[str, bytes], ...]


def unpack(data: bytes) -> Unpacked | None:
    """The contents of a TNEF stream, or None where it cannot be read within the limits."""
    if len(data) > LARGEST or not data.startswith(b"\x78\x9f\x3e\x22"):
        return None
    try:
        # No shell, and no argument comes from the mail.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", __file__],  # by its file: the package would be imported too
            input=data,
            capture_output=True,
            timeout=SECONDS + 4,
            check=True,
        )
        answer = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
    files = tuple((name, b64decode(content)) for name, content in answer["files"])
    return Unpacked(answer["text"], answer["html"], files)


def main() -> None:
    """Unpack standard input to JSON on standard output, under the limits above."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    from tnefparse import TNEF  # noqa: PLC0415 (only the child pays for it)

    found = TNEF(sys.stdin.buffer.read(), do_checksum=False)
    files = [
        (_text(attachment.long_filename()), b64encode(bytes(attachment.data)).decode())
        for attachment in found.attachments[:MOST_FILES]
    ]
    answer = {"text": _text(found.body), "html": _text(found.htmlbody), "files": files}
    sys.stdout.write(json.dumps(answer))


def _text(value: bytes | str | None) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode().strip("\x00")
        except UnicodeDecodeError:
            return value.decode("cp1252", "replace").strip("\x00")
    return (value or "").strip("\x00")


if __name__ == "__main__":
    main()
