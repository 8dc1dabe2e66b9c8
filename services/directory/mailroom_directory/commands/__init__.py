"""`mailroom user|group|mailbox|account|publisher …`: how people change the directory."""

from mailroom_directory.commands.accounts import account
from mailroom_directory.commands.mailboxes import mailbox
from mailroom_directory.commands.people import group, user
from mailroom_directory.commands.publishers import publisher

__all__ = ["account", "group", "mailbox", "publisher", "user"]
