"""Private RabbitMQ, PostgreSQL, Dovecot and Postfix on free loopback ports, in one folder.

Demo, tests and bench use this one launcher. Invariant: whatever is started here ends with the
process that holds the folder (`running`, `prepared`), however that process ends; and nothing of it
is shared with servers that the system runs.

    with running(Path("/tmp/mailroom-try")) as servers:
        add_mail_user(servers, "service@example.com", "secret")
        create_roles(servers, ["router"], {"mailroom": "secret", "router": "secret"})
        create_database(servers, "mailroom")
        import_definitions(servers, {"vhosts": [{"name": "mailroom"}]})

All functions are synchronous; those that start, stop or ask a server block for as long as it takes.
"""

from deploy.local.addresses import (
    ALL,
    Dovecot,
    Postfix,
    PostgreSQL,
    RabbitMQ,
    ServerName,
    Servers,
)
from deploy.local.dovecot import AddressRefused, add_mail_user, remove_mail_user
from deploy.local.postgresql import (
    SqlRefused,
    create_database,
    create_roles,
    drop_database,
    role_of,
)
from deploy.local.rabbitmq import (
    DefinitionsIncomplete,
    RabbitmqctlFailed,
    import_definitions,
    purge_queues,
    rabbitmqctl,
)
from deploy.local.servers import (
    FolderRefused,
    NotStarted,
    RootNeeded,
    freeze,
    is_running,
    kill,
    load,
    prepared,
    processes,
    remove,
    running,
    start,
    started,
    stop,
    thaw,
)

__all__ = [
    "ALL",
    "AddressRefused",
    "DefinitionsIncomplete",
    "Dovecot",
    "FolderRefused",
    "NotStarted",
    "Postfix",
    "PostgreSQL",
    "RabbitMQ",
    "RabbitmqctlFailed",
    "RootNeeded",
    "ServerName",
    "Servers",
    "SqlRefused",
    "add_mail_user",
    "create_database",
    "create_roles",
    "drop_database",
    "freeze",
    "import_definitions",
    "is_running",
    "kill",
    "load",
    "prepared",
    "processes",
    "purge_queues",
    "rabbitmqctl",
    "remove",
    "remove_mail_user",
    "role_of",
    "running",
    "start",
    "started",
    "stop",
    "thaw",
]
