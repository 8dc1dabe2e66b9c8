"""Address lists as mails write them (RFC 5322 sections 3.4 and 4.4, and in the wild).

Invariant: one pass over the characters; names are decoded only after the list is cut, so that no
comma or bracket in an encoded word becomes an address (RFC 2047 section 5).
"""

import re
from typing import Final

from mailroom.mime.charsets import one_line
from mailroom.mime.model import Address
from mailroom.mime.words import LONGEST_VALUE, decoded

MOST_ADDRESSES: Final = 5_000

# One mailbox as nearly all are written; what follows it in a list is found by its comma.
_SPEC = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~.-]++@[A-Za-z0-9.-]++"
_PLAIN = re.compile(
    r'[ \t]*+(?:(?:"([^"\\]*+)"[ \t]*+|([^"<>(),:;@\\]*+))'
    rf"<({_SPEC})>|({_SPEC}))[ \t]*+(?:,|$)"
)
_TOKEN = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")'
    r"|(?P<angle><[^<>]*(?:>|$))"
    r"|(?P<encoded>=\?[^?\s]+\?[bBqQ]\?[^?]*\?=)"  # its comma separates nothing
    r"|(?P<separator>[,;:])"
    r"|(?P<blank>\s+)"
    r'|(?P<word>[^\s"(<,;:]+)'
    r"|(?P<other>.)",
    re.DOTALL | re.ASCII,
)
_COMMENT_MARK = re.compile(r"\\.|[()]", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ROUTE = re.compile(r"^@[^:]*:")  # RFC 5322 section 4.4: <@a,@b:user@c>
_HIDDEN = re.compile(r"<\s*([^<>\s]{1,320}@[^<>\s]{1,320})\s*>", re.ASCII)
_COMMENT = re.compile(r"\([^()]*\)")
_QUOTED = re.compile(r'^"[^"]*"$')
_SPACED_DOT = re.compile(r"\s+\.\s*|\.\s+", re.ASCII)
_END_OF_SPEC = re.compile(r"[\s,;<>]")
_UNDISCLOSED = re.compile(r"^(?:undisclosed|unlisted)[- ]recipients?\b", re.IGNORECASE)
_SPACED_AT = re.compile(r"\s+@\s*|@\s+", re.ASCII)

Token = tuple[str, str]


def parse_addresses(values: list[str], hint: str | None = None) -> tuple[Address, ...]:
    """The mailboxes of raw header values, groups flattened, in order."""
    if not values:
        return ()
    found: list[Address] = []
    for value in values:
        found += _plain(value, hint) or _wild(value[:LONGEST_VALUE], hint)
    return tuple(address for address in found if address.name or address.address)


def _plain(value: str, hint: str | None) -> list[Address]:
    """The mailboxes of a list in which all are written plainly, else none."""
    found: list[Address] = []
    at = 0
    while at < len(value):
        match = _PLAIN.match(value, at)
        if match is None or len(found) >= MOST_ADDRESSES:
            return []
        at = match.end()
        quoted, bare, angle, alone = match.groups()
        found.append(Address(decoded(quoted or bare or "", hint), angle or alone))
    return found


def _wild(value: str, hint: str | None) -> list[Address]:
    mailboxes = _joined(_mailboxes(value))
    return [_address(tokens, hint) for tokens in mailboxes[:MOST_ADDRESSES]]


def _tokens(value: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(value):
        if value[at] == "(":
            comment, at = _comment(value, at)
            tokens.append(("comment", comment))
            continue
        match = _TOKEN.match(value, at)
        if match is None or match.lastgroup is None:  # cannot be: `other` takes anything
            break
        if match["other"] == '"':  # never closed: no quote counts from here on
            value = value[:at] + value[at:].replace('"', " ")
            continue
        at = match.end()
        tokens.append((match.lastgroup, match[0]))
    return tokens


def _comment(value: str, at: int) -> tuple[str, int]:
    """The text of the comment that opens at `at`, and where it is over; comments nest."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(value, at):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return _ESCAPE.sub(r"\1", value[at + 1 : mark.start()]), mark.end()
    return value[at + 1 :], len(value)


def _mailboxes(value: str) -> list[list[Token]]:
    """Tokens of each mailbox. Group names are dropped; ";" also separates, as Outlook has it."""
    boxes: list[list[Token]] = [[]]
    for kind, text in _tokens(value):
        box = boxes[-1]
        if kind != "separator":
            box.append((kind, text))
        elif text != ":":
            boxes.append([])
        elif _has_address(box):
            box.append(("word", text))  # a colon of user@[IPv6:…], say
        else:
            box.clear()  # the name of a group, or mailto:
    return [box for box in boxes if any(kind != "blank" for kind, _ in box)]


def _has_address(tokens: list[Token]) -> bool:
    return any(kind == "angle" or (kind == "word" and "@" in text) for kind, text in tokens)


def _joined(boxes: list[list[Token]]) -> list[list[Token]]:
    """`Doe, Jane <jane@x>`: a name whose comma nobody quoted is one name."""
    joined: list[list[Token]] = []
    for box in boxes:
        named = any(kind == "angle" for kind, _ in box)
        if joined and named and not _has_address(joined[-1]) and _only_words(joined[-1]):
            joined[-1] += [("word", ","), *box]
        else:
            joined.append(box)
    return joined


def _only_words(tokens: list[Token]) -> bool:
    return all(kind in {"word", "blank", "encoded"} for kind, _ in tokens)


def _address(tokens: list[Token], hint: str | None) -> Address:
    angles = [text for kind, text in tokens if kind == "angle"]
    comments = " ".join(text for kind, text in tokens if kind == "comment")
    if angles:
        name = _name(tokens, hint)
        return Address(name or decoded(comments, hint), _bare(angles[-1], hint))
    spec, rest = _spec(tokens)
    if spec:
        return Address(_name(rest, hint) or decoded(comments, hint), _bare(spec, hint))
    whole = decoded("".join(text for _, text in tokens), hint)
    hidden = _HIDDEN.search(whole)  # the whole mailbox was put into an encoded word
    if hidden is not None:
        return Address(whole[: hidden.start()].strip(' "'), hidden[1])
    name = _name(tokens, hint)
    if not name:
        return Address("", "")  # only a comment, as in an empty group
    if " " not in name:  # a local name such as MAILER-DAEMON
        return Address(decoded(comments, hint), "" if _UNDISCLOSED.match(name) else name)
    return Address(name, "")


def _spec(tokens: list[Token]) -> tuple[str, list[Token]]:
    """The addr-spec among tokens without angle brackets, and the other tokens.

    White space around its "@" is allowed (RFC 5322 section 4.4), a quoted local part too.
    """
    at = next((i for i, (kind, text) in enumerate(tokens) if kind == "word" and "@" in text), None)
    if at is None:
        return "", tokens
    first = last = at
    if tokens[at][1].startswith("@"):
        first = _neighbour(tokens, at, -1)
    if tokens[at][1].endswith("@"):
        last = _neighbour(tokens, at, 1)
    while last + 1 < len(tokens) and tokens[last + 1][0] == "word":
        last += 1
    while tokens[beside := _neighbour(tokens, last, 1)][1].startswith(".") and beside != last:
        last = beside if tokens[beside][1] != "." else _neighbour(tokens, beside, 1)
    spec = "".join(
        text for kind, text in tokens[first : last + 1] if kind not in {"blank", "comment"}
    )
    return spec, tokens[:first] + tokens[last + 1 :]


def _neighbour(tokens: list[Token], at: int, step: int) -> int:
    """The next token beside `at` that is neither blank nor comment, or `at`."""
    beside = at + step
    while 0 <= beside < len(tokens) and tokens[beside][0] in {"blank", "comment"}:
        beside += step
    return beside if 0 <= beside < len(tokens) else at


def _name(tokens: list[Token], hint: str | None) -> str:
    raw = "".join(
        _ESCAPE.sub(r"\1", text[1:-1]) if kind == "quoted" else " " if kind == "blank" else text
        for kind, text in tokens
        if kind in {"quoted", "word", "blank", "encoded"}
    )
    name = decoded(raw, hint).strip(" <>")
    return name[1:-1].strip() if _QUOTED.match(name) else name


def _bare(spec: str, hint: str | None) -> str:
    """The addr-spec of an angle address: without brackets, route, mailto and what follows it."""
    inner = spec.strip("<> \t\r\n").removeprefix("mailto:")
    if "=?" in inner or not inner.isascii():
        inner = decoded(inner, hint)
    inner = _ROUTE.sub("", inner)
    if not inner.startswith('"'):
        inner = _COMMENT.sub("", inner)
        inner = _SPACED_DOT.sub(".", _SPACED_AT.sub("@", inner))
        inner = _END_OF_SPEC.split(inner, maxsplit=1)[0]
    return "" if _UNDISCLOSED.match(inner) else one_line(inner)
