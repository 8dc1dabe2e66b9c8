"""What `mailroom account list` and `show` print of an account beside its settings."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock
from mailroom.directory.model import Folder
from mailroom_directory import queries, states
from mailroom_directory.commands.list_show_remove import Rows
from mailroom_directory.logins import SealedLogin
from mailroom_directory.server_urls import Protocol, url_of
from mailroom_directory.states import State

# The number of mails is an hour old at times: `show` tells it beside the time it was observed.
COLUMNS = ["name", "address", "mailbox", "state"]


async def complete(tx: AsyncConnection, rows: Rows) -> Rows:
    """Accounts with their servers, folders and state; of passwords nothing is shown."""
    at = clock.now()
    servers, folders = await queries.servers(tx), await queries.folders(tx)
    observed = await queries.account_states(tx)
    return [
        {
            **row,
            **_urls(servers.get(row["id"], {})),
            "folders": _folders(folders.get(row["id"], ())),
            **_state(observed.get(row["id"]), enabled=row["enabled"], at=at),
        }
        for row in rows
    ]


def _urls(servers: Mapping[Protocol, SealedLogin]) -> dict[str, str | None]:
    urls: dict[str, str | None] = {"imap": None, "smtp": None}
    for protocol, sealed in servers.items():
        urls[protocol] = url_of(sealed.login)
    return urls


def _folders(chosen: tuple[Folder, ...]) -> list[str]:
    return [f"{folder.name}={folder.role}" for folder in chosen]


def _state(state: State | None, *, enabled: bool, at: datetime) -> dict[str, Any]:
    return {
        "mails": state.mails if state else None,
        "observed_at": state.observed_at if state else None,
        "state": states.in_words(state, enabled=enabled, at=at),
    }
