"""Delivery reports (RFC 3464, and notices for people) and feedback reports (RFC 5965).

Invariant: a report is taken from the mail's own parts, never from a mail attached by a person.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from mailroom.mime import notices
from mailroom.mime.addresses import parse_addresses
from mailroom.mime.charsets import decode, one_line
from mailroom.mime.fields import Fields, split
from mailroom.mime.model import Action, Recipient, Report
from mailroom.mime.reasons import is_hard
from mailroom.mime.structure import Part, tree
from mailroom.mime.words import BLANKS, decoded

MOST_GROUPS: Final = 2_000
LONGEST_STATUS: Final = 1_000_000  # bytes of a message/delivery-status that are read

_DSN_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RETURNED_TYPES: Final = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "text/rfc822-header",
     "message/global-headers", "message/rfc822-headers", "message/partial"}
)  # fmt: skip
_FIELD = re.compile(
    r"^([A-Za-z][A-Za-z-]{2,40})[ \t]*:[ \t]*([^\n]*(?:\n[ \t]+[^\n]+)*)|^[ \t]*$", re.MULTILINE
)
_CODE = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)", re.ASCII)
_ACTIONS: Final[dict[str, Action]] = {
    "failed": "failed", "failure": "failed", "delayed": "delayed", "delivered": "delivered",
    "relayed": "relayed", "expanded": "expanded", "expired": "failed",
}  # fmt: skip
# Notification type: the member that tells, what it means, its list of recipients.
_SES: Final[dict[str, tuple[str, Action, str]]] = {
    "Bounce": ("bounce", "failed", "bouncedRecipients"),
    "Complaint": ("complaint", "feedback", "complainedRecipients"),
    "Delivery": ("delivery", "delivered", "recipients"),
}
_COMPLAINT = re.compile(r"\bstaff@(?:hotmail|outlook)\.com", re.IGNORECASE)
_OUTLOOK: Final = "x-hmxmroriginalrecipient"  # in complaints of Outlook.com's JMRP
_BEGIN: Final = frozenset({"final-recipient", "original-recipient"})
_DSN_IN_TEXT = re.compile(r"^(?:Final|Original)-Recipient[ \t]*:", re.MULTILINE | re.IGNORECASE)


def find_report(root: Part, subject: str, text: str) -> Report | None:
    """The report that a mail is, or None. Forms for machines count before forms for people."""
    fields = root.fields
    leaves = list(_leaves(root))
    status = any(leaf.type in _DSN_TYPES for leaf in leaves)
    notice = status or notices.is_notice(fields, subject, text)
    return (
        _complaint(fields, leaves, subject)
        or _status_report(fields, leaves, text, notice=notice)
        or _receipt(fields, leaves)
        or _by_sns(fields, text)
        or (_notice(fields, leaves, subject, text) if notice else None)
    )


def _complaint(fields: Fields, leaves: list[Part], subject: str) -> Report | None:
    """A feedback report (RFC 5965), or its forerunner of Outlook.com."""
    for leaf in leaves:
        if leaf.type == "message/feedback-report":
            told, _ = split(leaf.content() + b"\n\n", 0, LONGEST_STATUS, [])
            return _feedback(told, leaves, fields)
    if _COMPLAINT.search(fields.first("from") or "") and subject.startswith("complaint about"):
        return _feedback(Fields(), leaves, fields)
    return None


def _status_report(fields: Fields, leaves: list[Part], text: str, *, notice: bool) -> Report | None:
    """A delivery status notification (RFC 3464), under whatever type it came."""
    groups = [group for leaf in leaves if leaf.type in _DSN_TYPES for group in _groups(_raw(leaf))]
    if not groups and notice:
        groups = _inside(leaves)
    return _report(groups, leaves, notices.cut(text), fields) if groups else None


def _receipt(fields: Fields, leaves: list[Part]) -> Report | None:
    """That a mail was read or not (RFC 8098): a report, though on no delivery."""
    if any(leaf.type == "message/disposition-notification" for leaf in leaves):
        return _about((), _returned(leaves, ""), fields)
    return None


def _inside(leaves: list[Part]) -> list[dict[str, str]]:
    """Groups of a report that a gateway put into a report of its own (Trend Micro InterScan)."""
    for leaf in leaves:
        if leaf.type == "message/rfc822":
            inner = tree(leaf.content(), [])
            for part in _leaves(inner):
                if part.type in _DSN_TYPES:
                    return _groups(_raw(part))
    return []


def _leaves(part: Part) -> Iterator[Part]:
    if not part.children:
        yield part
    for child in part.children:
        yield from _leaves(child)


def _raw(leaf: Part) -> str:
    """The content as latin1, a character a byte, as header values are read."""
    return leaf.content()[:LONGEST_STATUS].decode("latin_1").replace("\r\n", "\n")


def _groups(raw: str) -> list[dict[str, str]]:
    """The per-recipient groups of RFC 3464 section 2.3; blank lines part them, or ought to."""
    groups: list[dict[str, str]] = []
    current: dict[str, str] = {}
    for match in _FIELD.finditer(raw):
        name = (match[1] or "").lower()
        again = name in _BEGIN and name in current
        if (not name or again) and current:
            groups.append(current)
            current = {}
        if name:
            current.setdefault(name, " ".join(line.strip(BLANKS) for line in match[2].split("\n")))
        if len(groups) >= MOST_GROUPS:
            break
    groups.append(current)
    return [g for g in groups if "final-recipient" in g or "original-recipient" in g]


def _report(
    groups: list[dict[str, str]], leaves: list[Part], notice: notices.Notice, report: Fields
) -> Report:
    found: dict[str, Recipient] = {}
    for group in groups:
        recipient = _recipient(group, notice.text if len(groups) == 1 else "")
        found.setdefault(recipient.address.lower(), recipient)
    return _about(tuple(found.values()), _returned(leaves, notice.returned), report)


def _recipient(group: dict[str, str], notice: str) -> Recipient:
    address = _typed(group.get("original-recipient", "")) or _typed(
        group.get("final-recipient", "")
    )
    action = _ACTIONS.get(group.get("action", "failed").split(" ")[0].lower(), "failed")
    given = decoded(group.get("status", ""))
    said = f"{decoded(group.get('diagnostic-code', ''))} {given}"
    status = _status(given, said)
    return Recipient(address, action, status, action == "failed" and is_hard(status, said, notice))


def _typed(value: str) -> str:
    """The address of "rfc822; user@host" (RFC 3464 section 2.3.1)."""
    found = parse_addresses([value.rsplit(";", 1)[-1]])
    return found[0].address if found and "@" in found[0].address else ""


def _status(given: str, said: str) -> str:
    """The most telling enhanced code: x.0.0 tells nothing, the host's own answer may."""
    codes = _CODE.findall(given) + _CODE.findall(said)
    telling = [code for code in codes if not code.endswith(".0.0")]
    return str((telling or codes or [""])[0])


def _notice(fields: Fields, leaves: list[Part], subject: str, text: str) -> Report:
    """A report whose only form is prose; or RFC 3464 fields that lost their part."""
    if not text.strip():
        text = decode(leaves[0].content()[:LONGEST_STATUS], None)[0] if leaves else ""
    notice = notices.cut(text)
    groups = _groups(text.encode().decode("latin_1")) if _DSN_IN_TEXT.search(text) else []
    if groups:
        return _report(groups, leaves, notice, fields)
    failed = [box.address for box in parse_addresses(fields.all("x-failed-recipients"))]
    sender = [box.address.lower() for box in parse_addresses(fields.all("to") + fields.all("from"))]
    found = notices.recipients(notice, failed, sender)
    returned = _returned(leaves, notice.returned)
    if not found:
        boxes = parse_addresses(returned.all("to"))
        found = [(box.address, notice.text) for box in boxes if box.address]
    delayed = notices.is_delay(notice.text, subject)
    around = notice.text if len(found) == 1 else ""
    about = tuple(_told(address, said, around, delayed=delayed) for address, said in found)
    return _about(about, returned, fields)


def _told(address: str, said: str, around: str, *, delayed: bool) -> Recipient:
    status = _status("", said) or _status("", around)
    hard = not delayed and is_hard(status, said, around)
    return Recipient(one_line(address), "delayed" if delayed else "failed", status, hard)


def _feedback(told: Fields, leaves: list[Part], report: Fields) -> Report:
    """RFC 5965: who complained, or wishes no more mail. No address is bad for that."""
    returned = _returned(leaves, "")
    values = told.all("original-rcpt-to") or told.all("removal-recipient")
    boxes = parse_addresses(values or returned.all(_OUTLOOK) or returned.all("to"))
    addresses = dict.fromkeys(box.address for box in boxes if box.address)
    found = tuple(Recipient(address, "feedback", "", hard=False) for address in addresses)
    return _about(found, returned, report)


def _returned(leaves: list[Part], text: str) -> Fields:
    """The header of the mail that is reported on, from its part or from below the notice."""
    texts = [leaf for leaf in leaves[1:] if leaf.type == "text/plain"]
    for leaf in [leaf for leaf in leaves if leaf.type in _RETURNED_TYPES] + texts:
        fields = _header(leaf.content())
        if "message-id" in fields.named or leaf.type in _RETURNED_TYPES:
            return fields
    return _header(text.encode())


def _header(raw: bytes) -> Fields:
    start = len(raw) - len(raw.lstrip())
    return split(raw, start, len(raw), [])[0] if start < len(raw) else Fields()


def _about(recipients: tuple[Recipient, ...], returned: Fields, report: Fields) -> Report:
    """`report`: the report's own header, for it may answer the mail (RFC 3834 section 3.1.5)."""
    message_id = returned.first("message-id") or report.first("in-reply-to") or ""
    subject = returned.first("subject")
    return Report(
        recipients,
        decoded(message_id.strip(BLANKS).strip("<>"))[:998] or None,
        decoded(subject[:8_000]) if subject else None,
    )


def _by_sns(fields: Fields, text: str) -> Report | None:
    """Amazon SES by way of SNS: JSON in the text (its documented notification contents)."""
    if "@sns.amazonaws.com" not in (fields.first("from") or ""):
        return None
    try:
        told, _ = json.JSONDecoder().raw_decode(text.strip().replace("\n", ""))
        kind, _, listed = _SES[told["notificationType"]]
        found = tuple(_by_ses(one, told["notificationType"]) for one in told[kind][listed])
        headers = told.get("mail", {}).get("commonHeaders", {})
        message_id, subject = headers.get("messageId"), headers.get("subject")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Report(
        found,
        one_line(message_id).strip("<>") if isinstance(message_id, str) else None,
        one_line(subject) if isinstance(subject, str) else None,
    )


def _by_ses(one: dict[str, str] | str, kind: str) -> Recipient:
    told = {"emailAddress": one} if isinstance(one, str) else one
    said = str(told.get("diagnosticCode", ""))
    status = _status(str(told.get("status", "")), said)
    action = _SES[kind][1]
    hard = action == "failed" and is_hard(status, said)
    return Recipient(one_line(str(told.get("emailAddress", ""))), action, status, hard)
