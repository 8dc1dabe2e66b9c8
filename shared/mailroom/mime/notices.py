"""Delivery reports written for people: known by sender, subject and wording, and taken apart.

About half of all reports carry no RFC 3464 part. Invariant: a row names the software whose form
it knows, and no rule takes the returned mail below the notice for a part of it.
"""

import re
from dataclasses import dataclass
from typing import Final

from mailroom.mime.fields import Fields

LONGEST_NOTICE: Final = 100_000  # characters
MOST_RECIPIENTS: Final = 1_000

_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"

# The sender alone tells: (field, pattern of its raw value, source).
_DAEMONS: Final = (
    ("from", r"mailer[- ]?daemon", "Sendmail, Postfix, qmail, after RFC 5321 section 4.5.5"),
    ("from", r"mail[ ._-]deliver(?:y|er)[ ._-](?:sub)?system", "Sendmail, Exim, Gmail, Postini"),
    ("from", r"internet mail delivery", "Sun and Oracle Messaging Server"),
    ("x-failed-recipients", r"@", "Exim, Gmail, Mail.ru"),
    ("subject", r"^loop alert: ", "fml"),
)
# The subject tells, where the sender is a postmaster or the return path is null.
_SUBJECTS: Final = (
    (r"^undeliver(?:ed|able)", "Exchange, Postfix, IMail"),
    (r"\bdelivery (?:status|report|failure|failed|problem|error|delayed|warning)", "RFC 3461"),
    (r"^(?:re: ?)?returned (?:e?-?mail|message)", "Sendmail"),
    (r"failure (?:notice|delivery|notification)|mail failure|delivery failure", "qmail, Yahoo"),
    (r"mail system error|returned mail|returning message to sender", "EZweb, Exim"),
    (r"could not be delivered|not delivered|unable to deliver|delivery has failed", "Exchange"),
    (r"^(?:non-?delivery|ndn\b|ndr\b)|error sending your mail", "Domino, Exchange"),
    (r"^warning: (?:could not send|message|e-?mail)|message delayed", "Sendmail, Exim"),
    (r"unzustellbar|zustellfehler|nicht zugestellt|fehler bei der zustellung", "German Exchange"),
    (r"non remis|échec de la remise|no se (?:puede|pudo) entregar|mancato recapito", "Exchange"),
)
# The first lines tell, on the same condition.
_OPENERS: Final = (
    (r"created automatically by (?:the )?mail delivery software", "Exim, 1&1, Zoho"),
    (r"this is the .{1,40}(?:program|mail agent|mail system|mailer)", "qmail, Postfix, DMA"),
    (r"deliver[ey]+ to the following recipients? ", "Gmail, Exchange"),
    (r"(?:could not|cannot|can't|not|unable to) be delivered|was(?: not|n't) delivered", "Domino"),
    (r"(?:unable|not able|error|trouble|attempting) (?:to )?deliver(?:ing)?\b", "qmail, Yahoo"),
    (r"did not reach the following recipient", "Exchange 2003"),
    (r"(?:following|these) (?:address|recipient)(?:es|s|\(es\)|\(s\))?.{0,20} (?:had|w|f)", "Exim"),
    (r"transcript of (?:the )?(?:session|attempts)", "Sendmail, SurfControl"),
    (r"failure reasons", "Lotus SMTP MTA"),
    (r"^error: .{1,80}\n\nerror message below:", "Verizon vtext"),
    (r"undeliverable|delivery (?:has )?failed", "many"),
)  # fmt: skip
_POSTMASTER = re.compile(r"post_?master|mail-?(?:admin|delivery)|<>|^$", re.IGNORECASE)

# Where the returned mail begins: (line, source). Else at the first block of header fields.
_RETURNED: Final = (
    (r"-+ ?this is a copy of (?:the|your) (?:message|headers?)", "Exim"),
    (r"-+ ?(?:below this line is|enclosed (?:is|are)) ", "qmail"),
    (r"-+ ?(?:un(?:sent|delivered)|original|returned) message\b", "Sendmail, Gmail, Notes"),
    (r"-+ ?the (?:header|body) of the original message is following", "1&1, GMX"),
    (r"-+ ?(?:message headers?|original mail|message text) follows?", "Gmail, Yahoo Japan"),
    (r"(?:message headers|original (?:message|mail))(?: as)? follows?[.:]", "DMA, IMail, fml"),
    (r"included is a copy of the message header", "MXlogic"),
    (r"below is a copy of the original message", "OpenSMTPD"),
    (r"original message headers:", "Exchange"),
)
_HEADER_BLOCK = (
    r"(?:received|return-path|date|from|to|subject|message-id|dkim-signature|x-[a-z-]+)[ \t]*:"
    r"[^\n]*\n(?:[ \t][^\n]*\n)*"
)
_RETURNED_LINE = re.compile(
    r"^[ \t>]*(?:" + "|".join(line for line, _ in _RETURNED) + r")[^\n]*\n"
    rf"|(?<=\n\n)(?={_HEADER_BLOCK}{_HEADER_BLOCK}{_HEADER_BLOCK})",
    re.IGNORECASE | re.MULTILINE,
)
# A recipient and what is said of it, in the forms of: (pattern, source).
_FORMS: Final = (
    (rf"^(?:\d{{3}}[ -]){{1,2}}<({_ADDRESS})>\.\.\.", "Sendmail 5"),
    (rf"^[ \t]*[*]?[ \t]*[<\"]({_ADDRESS})[>\"][ \t]*(?:\.\.\.|[:(\[]|$)", "qmail, Postfix, GMX"),
    (rf"^[ \t]*(?:\*[ \t]+)?({_ADDRESS})[ \t]*(?:\.\.\.|[:(\[]|$|on |invalid )", "Exim, Zoho"),
    (rf"^[ \t]*(?:recipient|addressed to|to)(?: address)?:[ \t]*<?({_ADDRESS})>?", "Oracle, EZweb"),
    (rf"deliver(?:ed|ing|y)?[\w ]{{0,20}}(?: to|:)[: ]{{1,3}}<?({_ADDRESS})>?", "DMA, KDDI"),
    (rf"(?:errors|recipients?|address(?:es)?|size|gateway for)[:\s(<]{{1,4}}({_ADDRESS})", "IMail"),
    (rf"(?:[<>]{{3}} |^[ \t]*)RCPT TO: ?<?({_ADDRESS})>?", "Sendmail, Verizon, InterScan"),
    (rf"^>>> (?:[^<\n]*<)?({_ADDRESS})>?", "ActiveHunter"),
)  # fmt: skip
_ANY_ADDRESS = re.compile(_ADDRESS)
_DELAYED = re.compile(
    r"\bdelay(?:ed)?\b|warning message only|do not need to re-?send|will (?:be re)?tr(?:y|ied)"
    r"|still trying|not yet been delivered|will continue|keep trying",
    re.IGNORECASE,
)


def _compiled(rows: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern, _ in rows), re.IGNORECASE)


_DAEMON: Final = {
    field: _compiled(
        tuple((pattern, source) for name, pattern, source in _DAEMONS if name == field)
    )
    for field in ("from", "x-failed-recipients", "subject")
}
_SUBJECT: Final = _compiled(_SUBJECTS)
_OPENER: Final = _compiled(_OPENERS)
_FORM: Final = tuple(re.compile(p, re.IGNORECASE | re.MULTILINE) for p, _ in _FORMS)


@dataclass(frozen=True, slots=True)
class Notice:
    """The notice without the mail it returns, and that mail as far as it is in the text."""

    text: str
    returned: str


def is_notice(fields: Fields, subject: str, text: str) -> bool:
    """Whether a mail without an RFC 3464 part reports on delivery."""
    named = fields.named
    for name, fits in _DAEMON.items():
        if name in named and any(fits.search(value) for value in named[name]):
            return True
    sender = fields.first("from") or ""
    if _POSTMASTER.search(sender):
        return bool(_SUBJECT.search(subject) or _OPENER.search(text[:2_000]))
    if not any("<>" in value for value in fields.all("return-path")[:1]):
        return False
    # Parcel services, too, write of deliveries, so that only an opener tells, beside an address.
    return bool(_OPENER.search(text[:2_000]) and _ANY_ADDRESS.search(text[:LONGEST_NOTICE]))


def cut(text: str) -> Notice:
    """Part the notice from the mail that it returns below."""
    head = text[:LONGEST_NOTICE]
    found = _RETURNED_LINE.search(head)
    if found is None:
        return Notice(head, "")
    return Notice(head[: found.start()], text[found.end() : found.end() + LONGEST_NOTICE])


def recipients(notice: Notice, failed: list[str], sender: list[str]) -> list[tuple[str, str]]:
    """Each recipient and what the notice says of it. `failed`: addresses that a header names.

    `sender`: the addresses to which the report went, which are no recipients of the mail.
    """
    text = notice.text
    if failed:
        known = [(text.find(address), address) for address in failed]
        return _segments(text, [(at, address) for at, address in sorted(known)])
    for form in _FORM:
        marks = [(match.start(1), match[1]) for match in form.finditer(text)]
        if marks and form is _FORM[0]:  # a line each, and the lines between are of others
            return _segments_by_line(text, marks)
        if marks:
            return _segments(text, marks)
    marks = [
        (match.start(), match[0])
        for match in _ANY_ADDRESS.finditer(text)
        if match[0].lower() not in sender
    ]
    return _segments(text, marks[:1])


def _segments(text: str, marks: list[tuple[int, str]]) -> list[tuple[str, str]]:
    """The text from each mark to the next; of an address that stands twice all that follows it."""
    said: dict[str, tuple[str, str]] = {}
    ends = [at for at, _ in marks[1:]] + [len(text)]
    for (at, address), end in zip(marks[:MOST_RECIPIENTS], ends, strict=False):
        key = address.lower()
        before = said[key][1] if key in said else ""
        said[key] = (said[key][0] if key in said else address, before + text[max(at, 0) : end])
    return list(said.values())


def _segments_by_line(text: str, marks: list[tuple[int, str]]) -> list[tuple[str, str]]:
    lines = {address.lower(): (address, text[at:].partition("\n")[0]) for at, address in marks}
    return list(lines.values())


def is_delay(notice: str, subject: str) -> bool:
    """Whether the notice only warns that the mail still waits."""
    return bool(_DELAYED.search(subject) or _DELAYED.search(notice[:1_500]))
