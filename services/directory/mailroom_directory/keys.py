"""Makes the keys that passwords are sealed with, and new ones beside old ones.

Invariant: the private ring holds the new key before the public key can be used, so that nothing is
sealed that nobody can open; both files are their owner's alone and change as a whole.
"""

import base64
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nacl.public import PrivateKey

from mailroom.directory import load_keys

PUBLIC, PRIVATE = "seal.key", "unseal.keys"


@dataclass(frozen=True)
class Made:
    """The two files, and how many older keys the ring still has."""

    public: Path
    private: Path
    older: int


def make(folder: Path) -> Made:
    """Make a key pair in `folder`; the ring there, if any, keeps its keys behind the new one.

    Raises KeyFileRefused for a ring that cannot be read, OSError for a folder that cannot be used.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    public, private = folder / PUBLIC, folder / PRIVATE
    older = load_keys(private).ring if private.exists() else ()
    new = PrivateKey.generate()
    _write(private, [bytes(key) for key in (new, *older)])
    _write(public, [bytes(new.public_key)])
    return Made(public, private, len(older))


def _write(path: Path, keys: list[bytes]) -> None:
    # mkstemp makes the file with mode 0600, whatever the umask.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        for key in keys:
            file.write(base64.b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).rename(path)
