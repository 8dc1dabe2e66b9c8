"""A private Dovecot: IMAP, LMTP for Postfix's deliveries, SASL for Postfix's logins.

Invariant: a user added here can log in at once, and a mail to an address that nobody added is
refused.
"""

import base64
import getpass
import grp
import os
import pwd
import re
import shutil
import socket
from pathlib import Path

from deploy.local import tls
from deploy.local.addresses import Dovecot, Servers
from deploy.local.guarded import Program
from deploy.local.ports import HOST, free_ports

_ADDRESS = re.compile(r"[a-z0-9._=-]+@[a-z0-9.-]+")

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
instance_name = {instance}
login_greeting = {instance}
listen = {host}
protocols = imap lmtp

# Everything as one user, so that it runs without root.
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_uid = {user}
mail_gid = {group}

# IDLE connections by the thousand, all from one address; anvil counts them all.
mail_max_userip_connections = 2500
default_client_limit = 5000
default_process_limit = 2500
default_vsz_limit = 1G
mail_fsync = {mail_fsync}

ssl = yes
ssl_cert = <{folder}/{certificate}
ssl_key = <{folder}/{key}
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no

auth_mechanisms = plain login
# A wrong password is answered within half a second, however often; real servers take seconds.
auth_failure_delay = 0
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}

passdb {{
  driver = passwd-file
  # A file for each user: Dovecot looks into a known file at most once a second.
  args = username_format=%Lu {users}/%Lu
}}
userdb {{
  driver = static
  args = home={folder}/mail/%Ld/%Ln
}}
recipient_delimiter = +
mail_location = maildir:~/Maildir

namespace inbox {{
  inbox = yes
  separator = /
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = subscribe
    special_use = \\Drafts
  }}
  mailbox Junk {{
    auto = subscribe
    special_use = \\Junk
  }}
  mailbox Trash {{
    auto = subscribe
    special_use = \\Trash
  }}
}}

service imap-login {{
  chroot =
  # Processes that stay serve many connections each, instead of one fork a login.
  service_count = 0
  process_min_avail = 1
  process_limit = 8
  inet_listener imap {{
    address = {host}
    port = {imap}
  }}
  inet_listener imaps {{
    address = {host}
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 2500
}}
service lmtp {{
  user = {user}
  process_limit = 100
  inet_listener lmtp {{
    address = {host}
    port = {lmtp}
  }}
}}
service auth {{
  user = {user}
  client_limit = 10000
  inet_listener {{
    address = {host}
    port = {sasl}
  }}
}}
service auth-worker {{
  user = {user}
}}
service stats {{
  chroot =
}}
"""


class AddressRefused(Exception):
    """An address that a mail user cannot have here."""

    def __init__(self, address: str) -> None:
        super().__init__(f"address {address!r}: give name@domain in lower case, without a plus tag")
        self.address = address


def addresses() -> Dovecot:
    """Free ports."""
    return Dovecot(HOST, *free_ports(4))


def program(servers: Servers, folder: Path) -> Program:
    """Write the configuration and run Dovecot."""
    user = unprivileged_user() or getpass.getuser()
    for name in (tls.CERTIFICATE, tls.KEY):
        shutil.copy(servers.folder / "tls" / name, folder / name)
    if os.geteuid() == 0:
        shutil.chown(folder / tls.KEY, user)
    _users(servers).mkdir(mode=0o711, exist_ok=True)
    # A pid that has been given to another process would refuse the start.
    (folder / "run" / "master.pid").unlink(missing_ok=True)
    configuration = folder / "dovecot.conf"
    configuration.write_text(_configuration(servers, folder, user), encoding="ascii")
    return Program(
        command=("dovecot", "-F", "-c", str(configuration)),
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        user=unprivileged_user(),
    )


def _configuration(servers: Servers, folder: Path, user: str) -> str:
    server = servers.dovecot
    return _CONFIGURATION.format(
        folder=folder,
        users=_users(servers),
        instance=_instance(servers),
        user=user,
        group=_group_of(user),
        mail_fsync="optimized" if servers.fsync else "never",
        certificate=tls.CERTIFICATE,
        key=tls.KEY,
        host=server.host,
        imap=server.imap,
        imaps=server.imaps,
        lmtp=server.lmtp,
        sasl=server.sasl,
    )


def unprivileged_user() -> str | None:
    """Debian's own, if the launcher is root."""
    return "dovecot" if os.geteuid() == 0 else None


def answers(servers: Servers) -> bool:
    """Whether it greets on IMAP under this instance's name."""
    server = servers.dovecot
    try:
        with socket.create_connection((server.host, server.imap), timeout=1) as connection:
            return _instance(servers).encode() in connection.recv(4096)
    except OSError:
        return False


def add_mail_user(servers: Servers, address: str, password: str) -> None:
    """Let `address` log in to Dovecot and Postfix, and receive mail, from now on.

    Its folders besides INBOX: Sent, Drafts, Junk, Trash, with their special use. Mail to
    `name+tag@domain` reaches it too. For a known address it changes the password, within a second.
    Raises AddressRefused.
    """
    if not _ADDRESS.fullmatch(address):
        raise AddressRefused(address)
    encoded = base64.b64encode(password.encode()).decode("ascii")
    entry = _users(servers) / address
    new = entry.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(f"{address}:{{PLAIN.b64}}{encoded}\n", encoding="ascii")
    if user := unprivileged_user():
        shutil.chown(new, user)
    if entry.exists():
        # Dovecot tells a changed file by its size and by the second of its change.
        changed = max(entry.stat().st_mtime + 1, new.stat().st_mtime)
        os.utime(new, (changed, changed))
    new.replace(entry)


def remove_mail_user(servers: Servers, address: str) -> None:
    """Refuse logins and mail of `address`, within a second; its mails stay in the folder."""
    (_users(servers) / address).unlink(missing_ok=True)


def _users(servers: Servers) -> Path:
    return servers.folder / "dovecot" / "users"


def _instance(servers: Servers) -> str:
    return f"mailroom-{servers.dovecot.imap}-{servers.folder.name}"


def _group_of(user: str) -> str:
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
