"""`mailroom attachment add`: files that a publisher may attach by their hash.

Invariant: a file is in the object store before it is recorded as somebody's upload.
"""

import json
import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mailroom import clock, objects, settings
from mailroom.cli import connected, refuse, run
from mailroom.contracts import ObjectRef
from mailroom_sender import store
from mailroom_sender.settings import SenderSettings

PUBLISHER = "sender"
"""Whose name requests from the shell carry: whoever has the sender's database role may send with
every account."""
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}")


@click.group()
def attachment() -> None:
    """Files that mails will have attached."""


@attachment.command("add")
@click.option(
    "--publisher",
    metavar="PUBLISHER",
    default=PUBLISHER,
    show_default=True,
    help="whose upload it is: no other publisher can attach it",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
def add(publisher: str, files: tuple[Path, ...]) -> None:
    """Upload files for a publisher's mails. They are attached by their hash.

    Prints a line of JSON for each, as it stands in `attachments` of a request.
    """
    if not _NAME.fullmatch(publisher):
        remedy = "1 to 63 letters, digits and . _ @ + -, a letter or digit first"
        raise refuse("--publisher", publisher, remedy)
    for line in run(_added(publisher, files)):
        click.echo(line)


async def stored(files: Sequence[Path]) -> list[tuple[Path, ObjectRef]]:
    """Put files into the object store. Raises Refusal for one that no mail could have."""
    if not files:
        return []
    opened = objects.open_store(settings.load(settings.CommonSettings).objects)
    limit = settings.load(SenderSettings).size_limit_mb * 1_000_000
    return [(file, await objects.put(opened, _read(file, limit))) for file in files]


def told(file: Path, ref: ObjectRef) -> dict[str, Any]:
    """A file in the store, as it stands in `attachments`."""
    type_ = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return {"filename": file.name, "type": type_, "object": ref.sha256}


async def _added(publisher: str, files: Sequence[Path]) -> list[str]:
    uploaded = await stored(files)
    async with connected(SenderSettings) as (tx, _):
        await store.insert_uploads(tx, publisher, [ref for _, ref in uploaded], clock.now())
    return [json.dumps(told(file, ref)) for file, ref in uploaded]


def _read(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        remedy = f"has more than {limit} bytes, which attachments have together at most"
        raise refuse("FILE", file.name, f"{remedy} (MAILROOM_SENDER_SIZE_LIMIT_MB)")
    return content
