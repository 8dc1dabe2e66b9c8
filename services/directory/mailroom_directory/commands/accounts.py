"""`mailroom account …`: logins at mail servers, and what is done there.

Invariant: a password is tried before it is sealed, and asked for again when an account moves to
another host or user: it was sealed for the old one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from nacl.public import PublicKey
from sqlalchemy.ext.asyncio import AsyncConnection

from mailroom import clock, settings
from mailroom.contracts import AccountFetch
from mailroom.directory import Folder, load_seal_key, seal
from mailroom_directory import keys, listing, queries
from mailroom_directory.accounts import AccountSettings
from mailroom_directory.commands import account_options, trial
from mailroom_directory.commands.account_listing import COLUMNS, complete
from mailroom_directory.commands.list_show_remove import add_list_show_remove
from mailroom_directory.commands.passwords import Passwords, Source, ask, password_options
from mailroom_directory.commands.session import changing, reading, refusing, run
from mailroom_directory.fields import FieldRefused
from mailroom_directory.logins import Plan, SealedLogin, plan
from mailroom_directory.server_urls import Login, Protocol
from mailroom_directory.settings import DirectorySettings


@click.group()
def account() -> None:
    """Logins at mail servers. Mail is fetched from them, and sent by them."""


add_list_show_remove(account, "account", COLUMNS, complete)

_no_test = click.option("--no-test", is_flag=True, help="store it without logging in first")
_OTHERWISE = "; --no-test stores it all the same"


@dataclass(frozen=True)
class _Stored:
    """An account as it is in the directory."""

    id: UUID
    settings: AccountSettings
    logins: Mapping[Protocol, SealedLogin]
    folders: tuple[Folder, ...]


@dataclass(frozen=True)
class _New:
    """An account as it is to be; what is None stays as it is."""

    settings: AccountSettings
    mailbox: str | None
    logins: Sequence[SealedLogin] | None
    folders: tuple[Folder, ...] | None


@account.command("add")
@click.argument("name")
@account_options.account_options
@password_options
@_no_test
def add(name: str, **options: Any) -> None:
    """Add an account. Logs in, seals the password and stores it."""
    with refusing():
        account_options.required(options, "mailbox", "address")
        at = clock.now()
        new = account_options.settings(AccountSettings(name, options["address"], at), options, at)
        folders = account_options.folders(options)
        todo = plan({}, account_options.given_logins(options, new.address), (), renew=True)
        run(_expect_mailbox(options["mailbox"]))
        sealed = _sealed(todo, new, folders or (), options)
        run(_add(_New(new, options["mailbox"], sealed, folders)))
    click.echo(f"account {name} added")


@account.command("change")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="call the account so from now on")
@account_options.account_options
@click.option("--password", "new_password", is_flag=True, help="ask for a new password")
@password_options
@_no_test
def change(name: str, **options: Any) -> None:
    """Change an account. An empty value clears a field, and --folder replaces all folders.

    To move it to another host or user, its password is needed again.
    """
    with refusing():
        known = run(_read(name))
        asked = {**options, "name": options["new_name"]}
        new = account_options.settings(known.settings, asked, clock.now())
        folders = account_options.folders(options)
        if options["mailbox"]:
            run(_expect_mailbox(options["mailbox"]))
        sealed = None
        if _moves(options):
            todo = plan(
                known.logins,
                account_options.given_logins(options, new.address),
                account_options.dropped_logins(options),
                renew=options["new_password"] or _source(options).given,
            )
            sealed = _sealed(todo, new, known.folders if folders is None else folders, options)
        run(_change(known.id, _New(new, options["mailbox"], sealed, folders)))
    click.echo(f"account {name} changed")


@account.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Fetch now. Neither interval nor calendar is waited for."""
    run(_fetch(name))
    click.echo(f"account {name} is being fetched; `mailroom account show {name}` says how it went")


@account.command("test")
@click.argument("name")
@password_options
def try_(name: str, **options: Any) -> None:
    """Log in to an account's servers. Lists its folders, and says what is wrong.

    The password is asked for: nobody but fetcher and sender can open the stored one.
    """
    with refusing():
        known = run(_read(name))
        logins = [sealed.login for sealed in known.logins.values()]
        passwords = ask(logins, _source(options))
        tried = run(trial.attempt(logins, passwords, known.settings, known.folders))
        for line in trial.lines(tried):
            click.echo(line)
        trial.insist(tried)


@account.command("keys")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def make_keys(folder: Path) -> None:
    """Make keys to seal passwords with. Older ones in FOLDER stay in the ring."""
    with refusing():
        made = keys.make(folder)
    click.echo(f"public key    {made.public}: MAILROOM_DIRECTORY_SEAL_KEY_FILE of the directory")
    click.echo(
        f"private ring  {made.private}: MAILROOM_FETCHER_UNSEAL_KEYS_FILE of the fetcher, "
        "MAILROOM_SENDER_UNSEAL_KEYS_FILE of the sender"
    )
    click.echo(f"the ring holds 1 new key and {made.older} older; keep a copy of it")


def _moves(options: Mapping[str, Any]) -> bool:
    """Whether anything is said of servers or passwords."""
    urls = options["imap"], options["smtp"]
    return urls != (None, None) or options["new_password"] or _source(options).given


def _source(options: Mapping[str, Any]) -> Source:
    return Source(options["password_stdin"], options["password_file"])


def _sealed(
    todo: Plan, new: AccountSettings, folders: Sequence[Folder], options: Mapping[str, Any]
) -> list[SealedLogin]:
    """Ask for passwords, try them, seal them. Raises FieldRefused, KeyFileRefused."""
    if not todo.ask:
        return list(todo.keep)
    key = _seal_key()
    passwords = ask(todo.ask, _source(options))
    if not options["no_test"]:
        tried = run(trial.attempt(todo.ask, passwords, new, folders))
        trial.insist(tried, otherwise=_OTHERWISE)
        for note in trial.notes(tried):
            click.echo(f"note: {note}", err=True)
    return [*todo.keep, *(_seal(login, passwords, key) for login in todo.ask)]


def _seal(login: Login, passwords: Passwords, key: PublicKey) -> SealedLogin:
    password = passwords[login.protocol].get_secret_value()
    return SealedLogin(login, seal(login.host, login.user, password, key))


def _seal_key() -> PublicKey:
    path = settings.load(DirectorySettings).seal_key_file
    if path is None:
        raise FieldRefused(
            "MAILROOM_DIRECTORY_SEAL_KEY_FILE",
            "",
            "is not set: name the file seal.key that `mailroom account keys FOLDER` makes",
        )
    return load_seal_key(path)


async def _expect_mailbox(name: str) -> None:
    """Refuse an unknown one before a password is asked for."""
    async with reading() as tx:
        await listing.entry(tx, "mailbox", name, "--mailbox")


async def _read(name: str) -> _Stored:
    async with reading() as tx:
        row = await listing.entry(tx, "account", name)
        return _Stored(
            row["id"],
            AccountSettings(**{field.name: row[field.name] for field in fields(AccountSettings)}),
            (await queries.servers(tx, row["id"])).get(row["id"], {}),
            (await queries.folders(tx, row["id"])).get(row["id"], ()),
        )


async def _add(new: _New) -> None:
    async with changing(new.settings.name) as change:
        made = await queries.add(change.tx, "account", await _columns(change.tx, new), change.at)
        await _set_parts(change.tx, made, new)
        change.changed("account", made)


async def _change(id_: UUID, new: _New) -> None:
    async with changing(new.settings.name, is_there=True) as change:
        await queries.change(change.tx, "account", id_, await _columns(change.tx, new))
        await _set_parts(change.tx, id_, new)
        change.changed("account", id_)


async def _columns(tx: AsyncConnection, new: _New) -> dict[str, Any]:
    columns = asdict(new.settings)
    if new.mailbox:
        found = await listing.entry(tx, "mailbox", new.mailbox, "--mailbox")
        columns["mailbox_id"] = found["id"]
    return columns


async def _set_parts(tx: AsyncConnection, id_: UUID, new: _New) -> None:
    if new.logins is not None:
        await queries.set_servers(tx, id_, new.logins)
    if new.folders is not None:
        await queries.set_folders(tx, id_, new.folders)


async def _fetch(name: str) -> None:
    async with changing(name) as change:
        row = await listing.entry(change.tx, "account", name)
        if not row["enabled"]:
            remedy = f"is disabled; `mailroom account change {name} --enabled`"
            raise FieldRefused("NAME", name, remedy)
        if "imap" not in (await queries.servers(change.tx, row["id"])).get(row["id"], {}):
            raise FieldRefused("NAME", name, "has no IMAP server to fetch from; it sends only")
        change.events.append(AccountFetch(account=row["id"]))
