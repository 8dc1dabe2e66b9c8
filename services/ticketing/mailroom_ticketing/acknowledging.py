"""Whether a new ticket is acknowledged: the rules that keep two machines from answering each other.

Invariant: nothing automatic answers automatic, list, bulk, report, spam or backfilled mail, or one
with the null reverse-path (RFC 3834 section 2); and one address gets at most one automatic answer
per ticket queue and hour, whatever its server calls itself and whichever detail it adds.
"""

import re
from datetime import datetime, timedelta
from typing import Literal

from mailroom_ticketing.known import Known, TicketQueue
from mailroom_ticketing.mails import TicketMail, without_detail

WINDOW = timedelta(hours=1)

Withheld = Literal[
    "switched off",
    "automatic mail",
    "spam",
    "backfill",
    "null reverse-path",
    "no address",
    "own address",
    "robot",
    "answered within the hour",
]

# What the sender checks in full; here only that there is somebody to answer.
_ADDRESS = re.compile(r"[^\s@<>]{1,64}@[^\s@<>]{1,189}")
# RFC 3834 section 2, and the names that senders give to mailboxes nobody reads.
_ROBOT = re.compile(r"mailer-daemon|owner-.+|.+-request|(no|donot|do-not)[-_.]?reply([-_.+].*)?")


def withheld(known: Known, mail: TicketMail, queue: TicketQueue, now: datetime) -> Withheld | None:
    """Why the mail that opened a ticket is not acknowledged; None when it is."""
    return (
        ("switched off" if not queue.acknowledge else None)
        or _of_the_mail(mail)
        or _of_the_address(known, mail)
        or _of_the_hour(known, mail, queue, now)
    )


def note_answer(known: Known, mail: TicketMail, queue: TicketQueue, now: datetime) -> None:
    """Count an automatic answer, so that the next mail of this batch sees it too."""
    known.answered[queue.id, mail.correspondent] = now


def _of_the_mail(mail: TicketMail) -> Withheld | None:
    if mail.auto != "none":
        return "automatic mail"
    if mail.spam:
        return "spam"
    if mail.backfill:
        return "backfill"
    return "null reverse-path" if mail.null_path else None


def _of_the_address(known: Known, mail: TicketMail) -> Withheld | None:
    address = next(iter(mail.replies_to), "")
    if not _ADDRESS.fullmatch(address):
        return "no address"
    people = [address, *mail.senders]
    if known.ours.intersection([*people, *map(without_detail, people)]):
        return "own address"
    robots = (each for each in people if _ROBOT.fullmatch(each.partition("@")[0]))
    return "robot" if any(robots) else None


def _of_the_hour(
    known: Known, mail: TicketMail, queue: TicketQueue, now: datetime
) -> Withheld | None:
    last = known.answered.get((queue.id, mail.correspondent))
    return "answered within the hour" if last is not None and now - last < WINDOW else None
