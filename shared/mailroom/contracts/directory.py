"""What the directory tells the others, and what it asks of and hears from the fetcher."""

from typing import ClassVar, Literal

from pydantic import Field

from mailroom.contracts.contract import UUID, AwareDatetime, Contract


class DirectoryChanged(Contract):
    """Something in the directory changed: read it again through the views."""

    name: ClassVar[str] = "directory.changed"
    publishers: ClassVar[tuple[str, ...]] = ("directory",)

    kind: Literal["user", "group", "mailbox", "account", "publisher"]
    id: UUID


class AccountFetch(Contract):
    """Fetch this account now, whatever its interval and calendar say."""

    name: ClassVar[str] = "account.fetch"
    is_command: ClassVar[bool] = True
    publishers: ClassVar[tuple[str, ...]] = ("directory",)

    account: UUID


class AccountObserved(Contract):
    """How an account fares: published when its state changes, and once an hour."""

    name: ClassVar[str] = "account.observed"
    publishers: ClassVar[tuple[str, ...]] = ("fetcher",)

    account: UUID
    state: Literal["ok", "failing"]
    problem: str = Field(default="", description="in a person's words; empty when ok")
    since: AwareDatetime
    observed_at: AwareDatetime
    mails: int = Field(description="mails that were published, of all folders")
