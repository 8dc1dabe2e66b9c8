"""The story that demo and smoke play: a dialogue with a customer, with proof.

Invariant: each line is told only after it was seen to be true, in a mail program's folder or in
what a command printed; a line that does not come true in time ends the story as NotTrue.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, TypeVar

from deploy.local import mail_programs as mail
from deploy.local.dovecot import add_mail_user
from deploy.local.mail_programs import Person
from deploy.local.operating import CommandFailed, Operated, answer, command, rows

T = TypeVar("T")

SERVICE = Person("Example Service", "service@example.net", "service-demo")
ANNA = Person("Anna Kundin", "anna@customer.test", "anna-demo")
MALLORY = Person("Mallory", "mallory@stranger.test", "mallory-demo")
PEOPLE = (SERVICE, ANNA, MALLORY)

REFUSED = 2
"""Exit code of a command that was asked for what is not there (yet)."""


class NotTrue(Exception):
    """A line of the story did not come true."""


@dataclass
class Told:
    """A line of the story, and what proves it."""

    line: str
    evidence: str
    after: float
    """Seconds since the story began."""


@dataclass
class Story:
    """One telling: whom it is played on, and what was told so far."""

    it: Operated
    tell: Callable[[Told], None]
    began: float = field(default_factory=time.monotonic)
    told: list[Told] = field(default_factory=list)
    first: EmailMessage | None = None
    """Anna's first mail."""
    tag: str = ""
    """Of ticket 1."""

    def line(self, line: str, evidence: str) -> None:
        """Tell what has just been seen."""
        told = Told(line, evidence, time.monotonic() - self.began)
        self.told.append(told)
        self.tell(told)


def eventually(line: str, look: Callable[[], T | None], within: float = 30.0) -> T:
    """What `look` sees, asked again until it sees something. Raises NotTrue."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(LookupError):
            if seen := look():
                return seen
        time.sleep(0.05)
    raise NotTrue(f"not true within {within:g} s: {line}")


def set_up(it: Operated) -> None:
    """Mail users, a mailbox, an account and a ticket queue, by the commands a person would use."""
    for person in PEOPLE:
        add_mail_user(it.servers, person.address, person.password)
    imap, smtp = it.servers.dovecot.imaps, it.servers.postfix.submissions
    command(it, "mailbox", "add", "service", "--address", SERVICE.address)
    command(
        it,
        *("account", "add", "service", "--mailbox", "service", "--address", SERVICE.address),
        *("--display-name", SERVICE.name, "--interval", "5"),
        *("--imap", f"imaps://{SERVICE.address}@localhost:{imap}"),
        *("--smtp", f"smtps://{SERVICE.address}@localhost:{smtp}"),
        "--password-stdin",
        text=SERVICE.password,
    )
    command(it, "ticket-queue", "add", "Service", "--mailbox", "service", "--account", "service")


def play(story: Story) -> None:
    """Play all of it. Raises NotTrue at the first line that is not."""
    arrives(story)
    acknowledged(story)
    answered(story)
    replied(story)
    headers_lost(story)
    answered_elsewhere(story)
    guessed(story)
    shown(story)


def arrives(story: Story) -> None:
    """A customer's mail comes in and opens ticket 1."""
    story.first = mail.write(
        ANNA, [SERVICE.address], "Paket beschädigt", "Mein Paket kam beschädigt an.\n\nAnna\n"
    )
    said = mail.post(story.it.servers, story.first)
    story.line(f"a customer, {ANNA.address}, sends a mail to {SERVICE.address}", said)
    steps = eventually("the mail opens ticket 1", lambda: _steps(story, "opened"))
    received = steps["received"]
    story.line("the fetcher brings it", f"received at {received['at']}, {_details(received)}")
    story.line("the router puts it into a mailbox and says why", steps["routed"]["why"])
    ticket = _ticket(story, 1)
    story.line(
        "ticketing opens ticket 1", f"{ticket['tag']} in queue {ticket['queue']}, {ticket['state']}"
    )
    _hold(ticket["queue"] == "Service", "ticket 1 is in the ticket queue Service")
    story.tag = ticket["tag"]


def acknowledged(story: Story) -> None:
    """The acknowledgement leaves with the tag, and lies in Sent."""
    arrived = _in_folder(story, ANNA, "INBOX", lambda seen: story.tag in str(seen["Subject"]))
    _hold(arrived["Auto-Submitted"] == "auto-replied", "the acknowledgement says it is automatic")
    story.line("the acknowledgement reaches the customer", str(arrived["Subject"]))
    copy = _in_folder(story, SERVICE, "Sent", lambda seen: _same(seen, arrived))
    story.line("its copy lies in the account's Sent folder", str(copy["Message-ID"]))


def answered(story: Story) -> None:
    """An agent answers by command."""
    text = "Das tut uns leid. Ersatz ist unterwegs."
    said = command(story.it, "ticket", "reply", "1", text=f"{text}\n")
    arrived = _in_folder(story, ANNA, "INBOX", lambda seen: text in _text(seen))
    _hold(story.tag in str(arrived["Subject"]), "the answer carries the tag")
    story.line("an agent answers: mailroom ticket reply 1", said.splitlines()[0])


def replied(story: Story) -> None:
    """The customer replies as a mail program does."""
    answer_ = _in_folder(story, ANNA, "INBOX", lambda seen: "Ersatz ist unterwegs" in _text(seen))
    reply = mail.reply(ANNA, answer_, "Danke, das ging schnell!\n")
    mail.post(story.it.servers, reply)
    entry = _joined(story, reply)
    story.line("the customer replies, and the mail joins ticket 1", entry["why"])


def headers_lost(story: Story) -> None:
    """A reply without In-Reply-To and References finds its ticket by the tag alone."""
    reply = mail.write(
        ANNA, [SERVICE.address], f"AW: AW: {story.tag} Paket beschädigt", "Noch eine Frage.\n"
    )
    mail.post(story.it.servers, reply)
    entry = _joined(story, reply)
    story.line("a reply that lost its headers joins by the tag alone", entry["why"])


def answered_elsewhere(story: Story) -> None:
    """A colleague answers in Outlook or Thunderbird; it comes in through Sent."""
    arrived = _in_folder(story, SERVICE, "INBOX", lambda seen: "Noch eine Frage" in _text(seen))
    colleague = mail.reply(SERVICE, arrived, "Rufen Sie mich gern an.\n")
    mail.submit(story.it.servers, SERVICE, colleague)
    entry = _joined(story, colleague)
    _hold(entry["direction"] == "out", "the colleague's answer is outgoing")
    story.line(
        "a colleague's answer from another mail program joins as outgoing, through Sent",
        entry["why"],
    )


def guessed(story: Story) -> None:
    """A stranger who guesses a number gets a ticket of their own."""
    forged = mail.write(MALLORY, [SERVICE.address], "Re: [#1-aaaaa] Paket", "Let me in.\n")
    mail.post(story.it.servers, forged)
    ticket = eventually("the stranger's mail opens ticket 2", lambda: _ticket(story, 2))
    mails = [entry["message_id"] for entry in _ticket(story, 1)["dialogue"]]
    _hold(_id(forged) not in mails, "the stranger's mail is not in ticket 1")
    suggestion = ticket["suggestions"][0]
    _hold(suggestion["perhaps_of"] == 1, "the guess is noted as a suggestion")
    story.line(
        "a stranger's mail with a guessed number does not join: it opens ticket 2",
        suggestion["why"],
    )


def shown(story: Story) -> None:
    """The whole dialogue stands in the ticket, each of ours filed."""

    def complete() -> Any:
        ticket = _ticket(story, 1)
        ours = [entry for entry in ticket["dialogue"] if entry["kind"] != "mail"]
        filed = [one for one in ours if "filed" in {fact["what"] for fact in one["told"]}]
        return ticket if len(ours) == len(filed) == 2 else None

    ticket = eventually("both mails of ours are filed", complete)
    kinds = [f"{entry['direction']}:{entry['kind']}" for entry in ticket["dialogue"]]
    wanted = ["in:mail", "out:acknowledgement", "out:reply", "in:mail", "in:mail", "out:mail"]
    _hold(kinds == wanted, f"the dialogue is {wanted}, and not {kinds}")
    story.line("ticket 1 has the whole dialogue, each mail once", ", ".join(kinds))


def _ticket(story: Story, number: int) -> Any:
    """The ticket as a command shows it, or None while there is none of this number."""
    try:
        return answer(story.it, "ticket", "show", str(number))
    except CommandFailed as refused:
        if refused.code != REFUSED:
            raise
    return None


def _steps(story: Story, last: str) -> dict[str, Any] | None:
    """The first mail's steps by what was done, when `last` is among them."""
    try:
        traced = rows(story.it, "trace", _id(story.first)) if story.first else []
    except CommandFailed as refused:
        if refused.code != REFUSED:
            raise
        return None
    # The trace goes on with what the mail caused: its own steps are the first of each kind.
    steps = {step["what"]: step for step in reversed(traced)}
    return steps if last in steps else None


def _joined(story: Story, message: EmailMessage) -> Any:
    def look() -> Any:
        entries = _ticket(story, 1)["dialogue"]
        return next((one for one in entries if one["message_id"] == _id(message)), None)

    return eventually(f"{message['Subject']} joins ticket 1", look)


def _in_folder(
    story: Story, owner: Person, name: str, wanted: Callable[[EmailMessage], bool]
) -> EmailMessage:
    def look() -> EmailMessage | None:
        return next(filter(wanted, mail.folder(story.it.servers, owner, name)), None)

    return eventually(f"a mail is in {name} of {owner.address}", look)


def _same(one: EmailMessage, other: EmailMessage) -> bool:
    return bool(one["Message-ID"] == other["Message-ID"])


def _id(message: EmailMessage) -> str:
    return str(message["Message-ID"]).strip().strip("<>")


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return body.get_content() if body else ""


def _details(step: dict[str, Any]) -> str:
    return ", ".join(f"{name} {step['detail'][name]}" for name in ("folder", "uid", "object"))


def _hold(true: bool, line: str) -> None:  # noqa: FBT001 -- it is the condition itself
    if not true:
        raise NotTrue(f"not true: {line}")
