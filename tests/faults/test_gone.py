"""What was parked is replayed when that which it is about is gone: the outcome is clear, and
nothing is lost."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.core.test_objects import one_bit_of
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import ticket_numbers
from tests.faults.mails import _question as question
from tests.waiting import until

HOUR = timedelta(hours=1)


async def test_replayed_without_its_account_mail_is_parked_again_and_a_request_is_rejected(
    new_firm: Firm, tmp_path: Path
) -> None:
    firm = new_firm
    firm.start_missing()
    request = await request_is_parked(firm, tmp_path / "price-list.txt")
    firm.end("router")
    await firm.gets(question(firm.customer(), [firm.sales]))
    await until(lambda: fetched(firm), within=PATIENCE)
    await firm.asks("account", "remove", firm.sales.name)
    firm.start("router")

    mail = (await until(lambda: parked(firm, "router"), within=PATIENCE))[0]
    await firm.asks("parked", "replay", mail["id"])
    again = (await until(lambda: parked(firm, "router", later(mail)), within=PATIENCE))[0]
    assert again["reason"].startswith("account ")
    assert "was removed from the directory, so its mail has no mailbox: drop it" in again["reason"]
    assert (again["id"], again["first_at"]) == (mail["id"], mail["first_at"])
    assert await ticket_numbers(firm) == set()

    await firm.asks("parked", "replay", request["id"])
    told = await until(lambda: firm.asks("sent", "rejected"), within=PATIENCE)
    assert f"account '{firm.sales.name}'" in told
    await until(lambda: none_parked(firm, "sender"), within=PATIENCE)


async def request_is_parked(firm: Firm, attachment: Path) -> dict[str, Any]:
    """A request of the account `sales`, whose attachment has been damaged in the object store."""
    attachment.write_text("expensive\n")
    firm.end("sender")
    asked = {
        "idempotency_key": uuid4().hex,
        "account": firm.sales.name,
        "to": [{"address": firm.customer().address}],
        "subject": "Our prices",
        "text": "As attached.\n",
    }
    words = ("send", "--attach", str(attachment))
    await asyncio.to_thread(firm.does, *words, text=json.dumps(asked))
    (stored,) = Path(firm.it.environment["MAILROOM_OBJECTS"]).glob("??/*")
    one_bit_of(stored)
    firm.start("sender")

    async def given_up() -> list[dict[str, Any]]:
        firm.pass_time(HOUR)
        return await parked(firm, "sender")

    row: dict[str, Any] = (await until(given_up, within=2 * PATIENCE))[0]
    assert row["reason"].startswith(f"tried 12 times: ObjectCorrupt: object {stored.name} is")
    return row


async def parked(
    firm: Firm, service: str, only: Callable[[dict[str, Any]], bool] = lambda _: True
) -> list[dict[str, Any]]:
    listed = await firm.asks("parked", "list", "--service", service, "--json")
    return [row for row in map(json.loads, listed.splitlines()) if only(row)]


async def none_parked(firm: Firm, service: str) -> bool:
    return await parked(firm, service) == []


def later(than: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    return lambda row: bool(row["last_at"] > than["last_at"] and not row["replayed_at"])


async def fetched(firm: Firm) -> bool:
    """The mail in the inbox of `sales` is in the object store."""
    objects = Path(firm.it.environment["MAILROOM_OBJECTS"])
    return any(b"Where is it?" in each.read_bytes() for each in objects.glob("??/*"))
