"""Which mailbox a mail belongs to: by rule, by a known address, or by its account.

Invariant: each mail gets exactly one mailbox, by the same way every time, with a reason that a
person can check against the mail. What comes to an account that feeds a private mailbox leaves that
person's mailboxes by a rule alone: anybody may write any address into To.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from mailroom.contracts import MailboxKind
from mailroom.mime import Mail
from mailroom_router.rules import Rule, evidence, shown

Direction = Literal["in", "out"]
Kind = Literal["rule", "address", "sender", "account"]
"""What decided: a rule, an address the mail is for, the one it is from (Sent), its account."""

BUILT_IN: dict[Kind, str] = {
    "address": "known address",
    "sender": "known sender",
    "account": "own mailbox",
}
"""How `mail.routed` names what is no rule of a person; no rule may be named so."""


@dataclass(frozen=True, slots=True)
class Account:
    """What routing needs of an account."""

    id: UUID
    name: str
    address: str
    mailbox: UUID


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What routing needs of a mailbox; `owner` is None for a central one."""

    id: UUID
    name: str
    kind: MailboxKind
    addresses: tuple[str, ...]
    owner: UUID | None = None


@dataclass(frozen=True)
class Atlas:
    """All that decides, read once a batch; rules in their order."""

    accounts: Mapping[UUID, Account]
    mailboxes: Mapping[UUID, Mailbox]
    addresses: Mapping[str, Mailbox]
    senders: frozenset[str]
    """Addresses that our accounts send from."""
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The mailbox of a mail, by what, and why."""

    mailbox: Mailbox
    kind: Kind
    rule: str
    reason: str


def atlas(
    accounts: Iterable[Account], mailboxes: Iterable[Mailbox], rules: Iterable[Rule]
) -> Atlas:
    """Put together what decides: addresses compare in lower case, rules by position and name."""
    boxes = {mailbox.id: mailbox for mailbox in mailboxes}
    logins = {account.id: account for account in accounts}
    return Atlas(
        accounts=logins,
        mailboxes=boxes,
        addresses={
            address.lower(): mailbox for mailbox in boxes.values() for address in mailbox.addresses
        },
        senders=frozenset(account.address.lower() for account in logins.values()),
        rules=tuple(sorted(rules, key=lambda rule: (rule.position, rule.name))),
    )


def decide(mail: Mail, account_id: UUID, direction: Direction, world: Atlas) -> Decision:
    """The mailbox of a mail that came through this account.

    Rules first; then the addresses it is for (delivered to, To, Cc; for mail from a Sent folder the
    address it is from); else the account's own mailbox. Raises KeyError for an account that the
    atlas does not have.
    """
    account = world.accounts[account_id]
    return (
        _by_rule(mail, account_id, world)
        or _by_address(mail, account, direction, world)
        or _by_account(account, world)
    )


def _by_rule(mail: Mail, account: UUID, world: Atlas) -> Decision | None:
    """The last rule that fits, up to the first that fits and stops."""
    fitting: list[tuple[Rule, tuple[str, ...]]] = []
    for rule in world.rules:
        if not rule.enabled or rule.mailbox not in world.mailboxes:
            continue
        if (found := evidence(rule, mail, account)) is None:
            continue
        fitting.append((rule, found))
        if rule.stop:
            break
    if not fitting:
        return None
    *overruled, (rule, found) = fitting
    reason = f"rule {shown(rule.name)} at position {rule.position}: {'; '.join(found)}"
    if overruled:
        reason += f"; it overrules {', '.join(shown(earlier.name) for earlier, _ in overruled)}"
    return Decision(world.mailboxes[rule.mailbox], "rule", rule.name, reason)


def _by_address(
    mail: Mail, account: Account, direction: Direction, world: Atlas
) -> Decision | None:
    own = world.mailboxes[account.mailbox]
    if direction == "out":
        return _by_sender(mail, own, world)
    delivered = [("delivered to", address) for address in mail.delivered_to]
    written = [("To", to.address) for to in mail.to] + [("Cc", cc.address) for cc in mail.cc]
    candidates = [found for found in _known(delivered, world) if _may_take(found[2], own)]
    # Without a word of who it was delivered to, To and Cc name the private addresses of colleagues
    # as well. Their own accounts bring their copies; the firm's must not vanish in one.
    candidates += sorted(
        (found for found in _known(written, world) if _may_take(found[2], own)),
        key=lambda found: found[2].kind == "private",
    )
    return _addressed("address", candidates)


def _by_sender(mail: Mail, own: Mailbox, world: Atlas) -> Decision | None:
    # Whoever wrote it chose the address: as the firm's, it is the firm's, through any account.
    written = [("from", sender.address) for sender in (*mail.from_, *mail.sender)]
    found = [
        (how, address, mailbox)
        for how, address, mailbox in _known(written, world)
        if mailbox.kind == "central" or mailbox.owner == own.owner
    ]
    return _addressed("sender", found)


Found = tuple[str, str, Mailbox]
"""How an address was given, the address, and whose it is."""


def _known(written: Iterable[tuple[str, str]], world: Atlas) -> list[Found]:
    return [
        (how, address, mailbox)
        for how, address in written
        if (mailbox := mailbox_of(address, world)) is not None
    ]


def _may_take(mailbox: Mailbox, own: Mailbox) -> bool:
    return own.kind == "central" or (mailbox.kind == "private" and mailbox.owner == own.owner)


def mailbox_of(address: str, world: Atlas) -> Mailbox | None:
    """Whose address this is, in any case; else whose it is without its +detail (RFC 5233)."""
    address = address.lower()
    local, _, domain = address.rpartition("@")
    bare = local.partition("+")[0]
    return world.addresses.get(address) or world.addresses.get(f"{bare}@{domain}")


def _addressed(kind: Kind, found: Sequence[Found]) -> Decision | None:
    if not found:
        return None
    how, address, mailbox = found[0]
    reason = f"{how} {shown(address)}, an address of mailbox {shown(mailbox.name)}"
    return Decision(mailbox, kind, BUILT_IN[kind], reason)


def _by_account(account: Account, world: Atlas) -> Decision:
    own = world.mailboxes[account.mailbox]
    why = f"account {shown(account.name)} feeds mailbox {shown(own.name)}"
    private = own.kind == "private"
    reason = f"{why}, which is private" if private else f"no rule and no known address; {why}"
    return Decision(own, "account", BUILT_IN["account"], reason)
