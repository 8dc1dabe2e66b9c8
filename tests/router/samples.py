"""Mails, accounts and mailboxes to decide about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

from mailroom import mime
from mailroom.contracts import MailReceived, ObjectRef
from mailroom.messaging.envelope import Received
from mailroom.mime import Address, Mail
from mailroom_router.mails import Arrival, Reading
from mailroom_router.routing import Account, Atlas, Mailbox, atlas
from mailroom_router.rules import Rule

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
ALICE, BOB = uuid4(), uuid4()

SERVICE = Mailbox(uuid4(), "Service", "central", ("service@firm.example",))
SALES = Mailbox(uuid4(), "Sales", "central", ("sales@firm.example", "offers@firm.example"))
INFO = Mailbox(uuid4(), "Info", "central", ())
ALICES = Mailbox(uuid4(), "Alice", "private", ("alice@firm.example",), ALICE)
ALICES_LISTS = Mailbox(uuid4(), "Lists", "private", ("alice.lists@firm.example",), ALICE)
BOBS = Mailbox(uuid4(), "Bob", "private", ("bob@firm.example",), BOB)

INFO_ACCOUNT = Account(uuid4(), "info", "info@firm.example", INFO.id)
SERVICE_ACCOUNT = Account(uuid4(), "service", "service@firm.example", SERVICE.id)
ALICE_ACCOUNT = Account(uuid4(), "alice", "alice@firm.example", ALICES.id)

NOTHING = replace(mime.read(b""), defects=())


def a_mail(**says: Any) -> Mail:
    """A mail that says little but this; addresses and headers may be given as plain strings."""
    usual: dict[str, Any] = {
        "message_id": "1@customer.example",
        "from_": ["customer@shop.example"],
        "subject": "A question",
        "date": NOW,
        "text": "How much is it?",
    }
    says = usual | says
    for field in ("from_", "sender", "reply_to", "to", "cc"):
        given = says.get(field, ())
        says[field] = tuple(Address("", one) if isinstance(one, str) else one for one in given)
    return replace(NOTHING, **says)


def a_rule(name: str, mailbox: Mailbox = SALES, position: int = 10, **given: Any) -> Rule:
    """A rule; its id comes from its name."""
    return Rule(
        id=uuid5(UUID(int=0), name), name=name, mailbox=mailbox.id, position=position, **given
    )


def a_world(*rules: Rule) -> Atlas:
    """The accounts and mailboxes above, with these rules."""
    return atlas(
        [INFO_ACCOUNT, SERVICE_ACCOUNT, ALICE_ACCOUNT],
        [SERVICE, SALES, INFO, ALICES, ALICES_LISTS, BOBS],
        rules,
    )


def an_arrival(
    mail: Mail | None = None,
    fingerprint: str = "fingerprint-1",
    *,
    account: Account = SERVICE_ACCOUNT,
    tries: int = 0,
    **fetched: Any,
) -> Arrival:
    """An arrival in the Inbox of an account."""
    usual: dict[str, Any] = {
        "arrival": uuid4(),
        "account": account.id,
        "folder": "INBOX",
        "role": "inbox",
        "uidvalidity": 1,
        "uid": 1,
        "internal_date": NOW,
        "raw": ObjectRef(sha256="a" * 64, size=1),
        "backfill": False,
        "received_at": NOW,
    }
    event = MailReceived(**(usual | fetched))
    received = Received(str(uuid4()), event, "fetcher", str(uuid4()), NOW, tries)
    return Arrival(
        received, Reading(mail or a_mail(), fingerprint, ObjectRef(sha256="b" * 64, size=2))
    )
