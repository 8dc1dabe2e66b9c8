"""Passwords come from a prompt, standard input or a file; never from the command line.

Invariant: they travel as SecretStr, which shows nothing in a repr or a traceback.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from mailroom_directory.fields import FieldRefused
from mailroom_directory.server_urls import Login, Protocol

Passwords = Mapping[Protocol, SecretStr]


@dataclass(frozen=True)
class Source:
    """Where the passwords come from; neither means a prompt."""

    from_stdin: bool
    file: Path | None

    @property
    def given(self) -> bool:
        """Whether the passwords come without asking."""
        return self.from_stdin or self.file is not None


def password_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --password-stdin and --password-file, which hold one line, or SMTP's in a second."""
    from_file = click.option(
        "--password-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="its first line; SMTP's in a second, where it is another",
    )
    from_stdin = click.option("--password-stdin", is_flag=True, help="the same from standard input")
    return from_file(from_stdin(command))


def ask(logins: Sequence[Login], source: Source) -> Passwords:
    """A password for each login. Raises FieldRefused."""
    if source.from_stdin and source.file:
        raise FieldRefused("--password-file", source.file, "give it or --password-stdin, not both")
    if source.from_stdin:
        return _from_lines(logins, "--password-stdin", sys.stdin.buffer.read())
    if source.file is None:
        return _from_prompt(logins)
    try:
        return _from_lines(logins, "--password-file", source.file.read_bytes())
    except OSError as failed:
        remedy = (
            f"cannot be read: {failed.strerror}; name a file with the password in its first line"
        )
        raise FieldRefused("--password-file", source.file, remedy) from None


def _from_lines(logins: Sequence[Login], field: str, data: bytes) -> Passwords:
    try:
        lines = [line.removesuffix("\r") for line in data.decode().rstrip("\r\n").split("\n")]
    except UnicodeDecodeError:
        raise FieldRefused(field, "…", "is not UTF-8; convert it") from None
    if len(lines) > 2:
        raise FieldRefused(field, "…", "give one line, or two: IMAP's password, then SMTP's")
    by_protocol = {"imap": lines[0], "smtp": lines[-1]}
    return {login.protocol: _checked(field, by_protocol[login.protocol]) for login in logins}


def _from_prompt(logins: Sequence[Login]) -> Passwords:
    if not sys.stdin.isatty():
        raise FieldRefused(
            "password", "", "no terminal to ask at; give --password-stdin or --password-file FILE"
        )
    given: dict[Protocol, SecretStr] = {}
    by_user: dict[str, SecretStr] = {}
    for login in logins:
        if login.user not in by_user:
            asked = f"Password of {login.user} at {login.host}"
            by_user[login.user] = _checked(
                "password", click.prompt(asked, hide_input=True, err=True)
            )
        given[login.protocol] = by_user[login.user]
    return given


def _checked(field: str, password: str) -> SecretStr:
    if not password:
        raise FieldRefused(field, "", "is empty; give the password")
    if any(character < " " or character == "\x7f" for character in password):
        raise FieldRefused(
            field, "…", "has a control character; give the password in one line of text"
        )
    return SecretStr(password)
