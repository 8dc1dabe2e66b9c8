"""One installation of Mailroom on private servers: roles, vhost, keys, and the environment.

Invariant: every service has a role, a broker user and a password of its own, as in production; the
environment that comes back is all that a service or a command needs.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.local.addresses import Servers
from deploy.local.postgresql import create_database, create_roles, role_of
from deploy.local.rabbitmq import import_definitions
from mailroom.messaging.topology import OWNER, definitions
from mailroom.service import Service

DATABASE = VHOST = "mailroom"


def install(
    servers: Servers, services: Sequence[Service[Any]], publishers: Sequence[str] = ()
) -> dict[str, str]:
    """Make roles, database and vhost, and return the environment; keys and migration come after.

    `publishers` are broker users of other ERP systems; their URLs are in the environment as
    <NAME>_BROKER_URL.
    """
    names = [service.name for service in services]
    passwords = {name: secrets.token_hex(16) for name in (OWNER, *names, *publishers)}
    create_roles(servers, names, passwords)
    create_database(servers, DATABASE)
    import_definitions(servers, definitions(services, VHOST, passwords, publishers))
    return environment(servers, names, publishers, passwords)


def environment(
    servers: Servers,
    names: Sequence[str],
    publishers: Sequence[str],
    passwords: Mapping[str, str],
) -> dict[str, str]:
    """The environment variables of an installation."""
    rows, events = servers.postgresql, servers.rabbitmq
    keys = servers.folder / "keys"
    made = {
        "MAILROOM_OBJECTS": str(servers.folder / "objects"),
        "MAILROOM_TLS_CA_FILE": str(servers.ca_file),
        "MAILROOM_DIRECTORY_SEAL_KEY_FILE": str(keys / "seal.public"),
        "MAILROOM_FETCHER_UNSEAL_KEYS_FILE": str(keys / "seal.private"),
        "MAILROOM_SENDER_UNSEAL_KEYS_FILE": str(keys / "seal.private"),
        "MAILROOM_TICKETING_TAG_KEYS_FILE": str(keys / "tags"),
    }
    for name in (OWNER, *names):
        prefix = "OWNER" if name == OWNER else name.upper().replace("-", "_")
        role = OWNER if name == OWNER else role_of(name)
        password = quote(passwords[name], safe="")
        made[f"MAILROOM_{prefix}_DATABASE_URL"] = (
            f"postgresql://{role}:{password}@{rows.host}:{rows.port}/{DATABASE}"
        )
    for name in (OWNER, *names, *publishers):
        prefix = "OWNER" if name == OWNER else name.upper().replace("-", "_")
        variable = f"{prefix}_BROKER_URL" if name in publishers else f"MAILROOM_{prefix}_BROKER_URL"
        password = quote(passwords[name], safe="")
        made[variable] = f"amqp://{name}:{password}@{events.host}:{events.port}/{VHOST}"
    return made


def tag_keys(path: Path) -> None:
    """A new key ring for ticket tags, for its owner's eyes alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"1:{secrets.token_hex(32)}\n")
