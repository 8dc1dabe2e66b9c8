"""`mailroom send`: asking for a mail from a shell; `sent` and `attachment` stand beside it.

Invariant: it publishes `mail.send` as any program does, through the sender's outbox and in its
name; the running service accepts or rejects it. What is wrong by itself is refused here already.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from pydantic import ValidationError
from pydantic_core import from_json
from sqlalchemy import select

from mailroom import clock
from mailroom.cli import Refusal, connected, refuse, run
from mailroom.contracts import MailSend
from mailroom.messaging import outbox
from mailroom.messaging.admission import LARGEST_BODY
from mailroom.messaging.envelope import Outgoing
from mailroom.printing import one_line
from mailroom_sender import loading, store
from mailroom_sender.attachment_commands import FILE, PUBLISHER, attachment, stored, told
from mailroom_sender.requests import Request
from mailroom_sender.sent_commands import sent, wrong_fields
from mailroom_sender.settings import SenderSettings
from mailroom_sender.tables import rejections
from mailroom_sender.validation import faults_of_itself, shown

__all__ = ["attachment", "send", "sent"]

LOOK_EVERY = 0.2
SENT, REFUSED, NO_OUTCOME = 0, 1, 3
"""Exit codes. Who takes the last for the second sends a mail twice."""


@click.command("send")
@click.option(
    "--attach",
    "files",
    multiple=True,
    type=FILE,
    help="file to attach, of any size that the sender allows; repeatable",
)
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(0, 3600),
    is_flag=False,
    flag_value=60,
    default=None,
    help="wait for the outcome, 60 seconds unless another number is given, and print it",
)
def send(files: tuple[Path, ...], seconds: float | None) -> None:
    """Send a mail. Standard input has its `mail.send` request, as JSON.

    Prints its idempotency key; without one in the request, a new one. With --wait the exit code is
    0 for a mail that was sent, 1 for one that was refused or failed, 3 where there was no outcome
    in time: it may still leave; or where it is held, since nobody knows whether it left.
    """
    asked = read_request(sys.stdin.buffer.read(LARGEST_BODY + 1), run(_attachments(files)))
    event_id = run(_publish(asked))
    click.echo(asked.idempotency_key)
    if seconds is not None:
        sys.exit(run(_wait(asked.idempotency_key, event_id, seconds)))


def read_request(body: bytes, attachments: Sequence[dict[str, Any]]) -> MailSend:
    """The request in `body`. Raises Refusal, naming every wrong field."""
    if len(body) > LARGEST_BODY:
        remedy = f"a request has at most {LARGEST_BODY} bytes; attach files with --attach"
        raise refuse("standard input", f"{len(body)} bytes and more", remedy)
    try:
        asked = from_json(body)
    except ValueError as wrong:
        remedy = f"no JSON ({wrong}); give one object, a mail.send request"
        raise refuse("standard input", body.decode("utf-8", "replace"), remedy) from None
    if not isinstance(asked, dict):
        raise refuse("standard input", json.dumps(asked), "give one JSON object")
    if unknown := sorted(asked.keys() - MailSend.model_fields.keys()):
        known = ", ".join(MailSend.model_fields)
        remedy = f"no such field; there are {known}"
        raise refuse(shown(unknown[0]), asked[unknown[0]], remedy)
    asked.setdefault("idempotency_key", str(uuid4()))
    if attachments:
        asked["attachments"] = [*(asked.get("attachments") or []), *attachments]
    try:
        request = MailSend.model_validate_json(json.dumps(asked))
    except ValidationError as invalid:
        raise Refusal("; ".join(_faults(invalid))) from None
    if errors := faults_of_itself(request, clock.now()):
        raise Refusal(wrong_fields([each.model_dump() for each in errors]))
    return request


def _faults(invalid: ValidationError) -> list[str]:
    faults = []
    for error in invalid.errors(include_url=False):
        field = ".".join(str(part) for part in error["loc"])
        is_missing = error["type"] == "missing"
        value, remedy = ("", "is needed") if is_missing else (shown(error["input"]), error["msg"])
        faults.append(f"{field} '{value}': {remedy}")
    return faults


async def _attachments(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [told(file, ref) for file, ref in await stored(files)]


async def _publish(asked: MailSend) -> UUID:
    outgoing = Outgoing(asked, correlation_id=str(uuid4()))
    async with connected(SenderSettings) as (tx, _):
        await outbox.add(tx, store.messaging, [outgoing])
    return outgoing.event_id


async def _wait(key: str, event_id: UUID, seconds: float) -> int:
    """Print the outcome, or that there is none in time; the exit code that says it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        async with connected(SenderSettings) as (tx, _):
            errors = await tx.scalar(
                select(rejections.c.errors).where(rejections.c.event_id == str(event_id))
            )
            found = (await loading.by_key(tx, {(PUBLISHER, key)})).get((PUBLISHER, key))
        if errors is not None:
            click.echo(f"rejected: {wrong_fields(errors)}")
            return REFUSED
        if found is not None and found.state not in ("accepted", "sending"):
            click.echo(_outcome(found))
            return {"sent": SENT, "unknown": NO_OUTCOME}.get(found.state, REFUSED)
        if asyncio.get_running_loop().time() > deadline:
            state = found.state if found else "not yet accepted; is the sender running?"
            click.echo(f"no outcome within {seconds:g} s: {state}")
            return NO_OUTCOME
        await asyncio.sleep(LOOK_EVERY)


def _outcome(request: Request) -> str:
    lines = [f"{request.state} <{request.message_id}>"]
    for target in request.targets:
        code = f"{target.code} " if target.code else ""
        lines.append(f"  {target.address} {target.state}: {code}{one_line(target.reply)}")
    return "\n".join(lines)
