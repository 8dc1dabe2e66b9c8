"""What a test of an account found, and what it says about the folders there.

Invariant: a problem is something that keeps mail from coming in or going out; a note is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mailroom.directory.model import Folder

_KEPT_OUT = {
    "all": "holds copies of every other folder; choose those instead",
    "drafts": "holds drafts, which are no mail yet",
}


@dataclass(frozen=True)
class Finding:
    """One line of a test's result."""

    level: Literal["ok", "note", "problem"]
    text: str


def of_folders(
    listed: Mapping[str, str], chosen: Sequence[Folder], copies: str | None
) -> list[Finding]:
    """What there is to read, and which choices do not fit the server.

    `listed` has each folder's special use, or "none"; `copies` is the folder for copies of sent
    mail, where we file them.
    """
    shown = ", ".join(name if use == "none" else f"{name} ({use})" for name, use in listed.items())
    found = [Finding("ok", f"folders: {shown}")]
    for folder in chosen:
        found.extend(_of_choice(folder, listed.get(folder.name)))
    if copies is not None and copies not in listed:
        found.append(Finding("note", f"folder {copies!r} for sent mail is not there; it is made"))
    return found


def _of_choice(folder: Folder, use: str | None) -> list[Finding]:
    if use is None:
        return [Finding("problem", f"there is no folder {folder.name!r}; choose of those listed")]
    if use in _KEPT_OUT:
        return [Finding("problem", f"folder {folder.name!r} {_KEPT_OUT[use]}")]
    if use in {"junk", "sent"} and folder.role != use:
        # Junk read as anything else would open tickets, and our own mail would come in as theirs.
        said = f"folder {folder.name!r} is the server's {use}; write"
        return [Finding("problem", f"{said} --folder '{folder.name}={use}'")]
    return []
