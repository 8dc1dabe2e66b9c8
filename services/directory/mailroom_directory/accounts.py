"""What an account may be set to.

Invariant: a stored account can be fetched: its interval is bearable for a server, its calendar
fires, its zone exists, its folders are named once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from mailroom.contracts import FolderRole
from mailroom.directory.model import Folder
from mailroom_directory import fields
from mailroom_directory.fields import FieldRefused

SHORTEST_INTERVAL = 5
LONGEST_INTERVAL = 24 * 60 * 60
CRON = "minute hour day month weekday, as in '*/2 7-19 * * MON-FRI'"


@dataclass(frozen=True)
class AccountSettings:
    """An account as people set it, but for its mailbox, servers and folders."""

    name: str
    address: str
    start: datetime
    display_name: str = ""
    sent: Literal["append", "server"] = "append"
    sent_folder: str | None = None
    unknown: Literal["resend", "hold"] = "resend"
    interval_seconds: int = 60
    calendar: str | None = None
    timezone: str = "UTC"
    idle: bool = True
    enabled: bool = True


def checked(settings: AccountSettings, at: datetime) -> AccountSettings:
    """These settings, if they hold at this moment. Raises FieldRefused."""
    fields.name(settings.name)
    fields.address(settings.address)
    fields.line(settings.display_name, "--display-name")
    if settings.sent_folder is not None:
        fields.line(settings.sent_folder, "--sent-folder")
    interval(settings.interval_seconds)
    zone = timezone(settings.timezone)
    if settings.calendar is not None:
        calendar(settings.calendar, zone, at)
    return settings


def interval(seconds: int) -> int:
    """Seconds from one look to the next. Raises FieldRefused."""
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:
        raise FieldRefused(
            "--interval", seconds, f"{SHORTEST_INTERVAL} to {LONGEST_INTERVAL} seconds"
        )
    return seconds


def timezone(name: str) -> ZoneInfo:
    """The zone of this IANA name. Raises FieldRefused."""
    # ZoneInfo itself raises whatever opening a file of this name raises.
    if name != "UTC" and name not in available_timezones():
        raise FieldRefused("--timezone", name, "no such zone here; give one like Europe/Berlin")
    return ZoneInfo(name)


def calendar(expression: str, zone: ZoneInfo, at: datetime) -> datetime:
    """When this cron expression fires next. Raises FieldRefused, also where it never does."""
    if len(expression.split()) != 5:
        raise FieldRefused("--calendar", expression, f"give five fields: {CRON}")
    try:
        return next(CronSim(expression, at.astimezone(zone)))
    except CronSimError as wrong:
        # "Bad day-of-month" is also said of the 30th of February.
        raise FieldRefused(
            "--calendar", expression, f"never fires ({str(wrong).lower()}); give {CRON}"
        ) from None
    except StopIteration:
        raise FieldRefused("--calendar", expression, f"never fires; give {CRON}") from None


def start(value: str, zone: ZoneInfo) -> datetime:
    """A date or time in ISO 8601, in the account's zone unless it names its own.

    Raises FieldRefused.
    """
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise FieldRefused(
            "--start", value, "give a date or time like 2026-01-31 or 2026-01-31T08:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def folders(values: Sequence[str]) -> tuple[Folder, ...]:
    """Folders as people write them, NAME or NAME=ROLE. Raises FieldRefused."""
    read = tuple(_folder(value) for value in values if value)
    for folder in read:
        if sum(other.name == folder.name for other in read) > 1:
            raise FieldRefused("--folder", folder.name, "is named twice")
    return read


def _folder(value: str) -> Folder:
    name, equals, role = value.rpartition("=")
    if not equals:
        name, role = value, "inbox" if value.upper() == "INBOX" else "other"
    fields.line(name, "--folder")
    if not name:
        raise FieldRefused("--folder", value, "name the folder, as in Archive=archive")
    for known in get_args(FolderRole):
        if role == known:
            return Folder(name, known)
    raise FieldRefused(
        "--folder", value, f"the role after = is one of {', '.join(get_args(FolderRole))}"
    )
