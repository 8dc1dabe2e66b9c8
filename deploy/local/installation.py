"""One installation of Mailroom on private servers: roles, vhost, keys, and the environment.

Invariant: every service has a role, a broker user and a password of its own, as in production; the
environment that comes back is all that a service or a command needs.
"""

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.local.addresses import Servers
from deploy.local.postgresql import create_database, create_roles, role_of
from deploy.local.rabbitmq import import_definitions
from mailroom.messaging.topology import OWNER, definitions
from mailroom.service import Service


@dataclass(frozen=True)
class Place:
    """Where an installation lives: its folder of keys and objects, its database, its vhost."""

    folder: Path
    database: str = "mailroom"
    vhost: str = "mailroom"


def install(
    servers: Servers, place: Place, services: Sequence[Service[Any]], publishers: Sequence[str] = ()
) -> dict[str, str]:
    """Make roles, database and vhost, and return the environment; keys and migration come after.

    `publishers` are broker users of other ERP systems; their URLs are in the environment as
    <NAME>_BROKER_URL.
    """
    names = [service.name for service in services]
    passwords = {name: secrets.token_hex(16) for name in (OWNER, *names, *publishers)}

    def rows() -> None:
        create_roles(servers, names, passwords)
        create_database(servers, place.database)

    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(rows)
        import_definitions(servers, definitions(services, place.vhost, passwords, publishers))
        made.result()
    return environment(servers, place, passwords, publishers)


def environment(
    servers: Servers, place: Place, passwords: Mapping[str, str], publishers: Sequence[str] = ()
) -> dict[str, str]:
    """The environment variables of an installation; `passwords` by service, owner and publisher."""
    keys = place.folder / "keys"
    made = {
        "MAILROOM_OBJECTS": str(place.folder / "objects"),
        "MAILROOM_TLS_CA_FILE": str(servers.ca_file),
        "MAILROOM_DIRECTORY_SEAL_KEY_FILE": str(keys / "seal.key"),
        "MAILROOM_FETCHER_UNSEAL_KEYS_FILE": str(keys / "unseal.keys"),
        "MAILROOM_SENDER_UNSEAL_KEYS_FILE": str(keys / "unseal.keys"),
        "MAILROOM_TICKETING_TAG_KEYS_FILE": str(keys / "tags"),
    }
    rows, events = servers.postgresql, servers.rabbitmq
    for name, password in passwords.items():
        secret = quote(password, safe="")
        prefix = "OWNER" if name == OWNER else name.upper().replace("-", "_")
        broker = f"amqp://{name}:{secret}@{events.host}:{events.port}/{place.vhost}"
        if name in publishers:
            made[f"{prefix}_BROKER_URL"] = broker
            continue
        role = OWNER if name == OWNER else role_of(name)
        made[f"MAILROOM_{prefix}_BROKER_URL"] = broker
        made[f"MAILROOM_{prefix}_DATABASE_URL"] = (
            f"postgresql://{role}:{secret}@{rows.host}:{rows.port}/{place.database}"
        )
    return made


def tag_keys(path: Path) -> None:
    """A new key ring for ticket tags, for its owner's eyes alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"1:{secrets.token_hex(32)}\n")
