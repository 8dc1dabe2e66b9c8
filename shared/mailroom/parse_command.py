"""`mailroom parse`: what reading makes of mails, as JSON lines."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from mailroom.mime import Address, Mail, read


@click.command()
@click.option("--json", "as_json", is_flag=True, required=True, help="One JSON object a line.")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
def parse(files: tuple[str, ...], *, as_json: bool) -> None:  # noqa: ARG001 (the only form so far)
    """Print what each mail says. One JSON object a line, in the order of the files."""
    for name in files:
        try:
            raw = Path(name).read_bytes()
        except OSError as fault:
            sys.stdout.buffer.flush()
            reason = fault.strerror or "cannot be opened"
            click.echo(f"mailroom: file {name!r}: {reason}; name a file that can be read", err=True)
            raise SystemExit(2) from None
        # A mail's words must not drive a terminal; a program reads both alike.
        line = json.dumps(_told(read(raw)), ensure_ascii=sys.stdout.isatty()) + "\n"
        sys.stdout.buffer.write(line.encode())


def _told(mail: Mail) -> dict[str, Any]:
    recipients = mail.report.recipients if mail.report else ()
    return {
        "from": _boxes(mail.from_),
        "to": _boxes(mail.to),
        "cc": _boxes(mail.cc),
        "reply_to": _boxes(mail.reply_to),
        "subject": mail.subject,
        "date": mail.date.isoformat() if mail.date else None,
        "message_id": mail.message_id,
        "in_reply_to": list(mail.in_reply_to),
        "references": list(mail.references),
        "text": mail.text,
        "html": mail.html,
        "attachments": [
            {
                "filename": one.filename,
                "type": one.type,
                "size": one.size,
                "disposition": one.disposition,
                "content_id": one.content_id,
            }
            for one in mail.attachments
        ],
        "auto": mail.auto,
        "report": [
            {"address": one.address, "action": one.action, "status": one.status, "hard": one.hard}
            for one in recipients
        ],
        "defects": list(mail.defects),
    }


def _boxes(mailboxes: tuple[Address, ...]) -> list[dict[str, str]]:
    return [{"name": box.name, "address": box.address} for box in mailboxes]
