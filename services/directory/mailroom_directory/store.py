"""The directory's tables.

Invariant: nobody else reads them; others see the views `…_v1` that the migrations make of them.
Each constraint has a name, PostgreSQL's usual one where none stands here, since `conflicts.py`
tells a person what it means.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
)

from mailroom.messaging.tables import messaging_tables

metadata = MetaData(schema="directory")
messaging = messaging_tables(metadata)


def _named(name: str, *columns: Column[object] | CheckConstraint) -> Table:
    """A table of things that people name; no two have the same name, whatever its case."""
    table = Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("name", Text, nullable=False),
        *columns,
        Column("created_at", DateTime(timezone=True), nullable=False),
    )
    Index(f"{name}_name", func.lower(table.c.name), unique=True)
    return table


users = _named(
    "users",
    Column("display_name", Text, nullable=False),
    Column("address", Text),
)
groups = _named("groups")
memberships = Table(
    "memberships",
    metadata,
    Column("group_id", ForeignKey(groups.c.id, ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True, index=True),
)
mailboxes = _named(
    "mailboxes",
    Column("kind", Text, nullable=False),
    Column("owner_id", ForeignKey(users.c.id), index=True),
    CheckConstraint("kind IN ('central', 'private')", name="mailboxes_kind"),
    CheckConstraint("(kind = 'private') = (owner_id IS NOT NULL)", name="mailboxes_owner"),
)
mailbox_addresses = Table(
    "mailbox_addresses",
    metadata,
    Column("address", Text, primary_key=True),
    Column(
        "mailbox_id", ForeignKey(mailboxes.c.id, ondelete="CASCADE"), nullable=False, index=True
    ),
    CheckConstraint("address = lower(address)", name="mailbox_addresses_lower"),
)
rights = Table(
    "rights",
    metadata,
    Column("mailbox_id", ForeignKey(mailboxes.c.id, ondelete="CASCADE"), primary_key=True),
    Column("group_id", ForeignKey(groups.c.id), primary_key=True, index=True),
    Column("level", Text, nullable=False),
    CheckConstraint("level IN ('read', 'write')", name="rights_level"),
)
accounts = _named(
    "accounts",
    Column("address", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("mailbox_id", ForeignKey(mailboxes.c.id), nullable=False, index=True),
    Column("sent", Text, nullable=False),
    Column("sent_folder", Text),
    Column("unknown", Text, nullable=False),
    Column("start", DateTime(timezone=True), nullable=False),
    Column("interval_seconds", Integer, nullable=False),
    Column("calendar", Text),
    Column("timezone", Text, nullable=False),
    Column("idle", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    CheckConstraint("sent IN ('append', 'server')", name="accounts_sent"),
    CheckConstraint("unknown IN ('resend', 'hold')", name="accounts_unknown"),
    CheckConstraint("interval_seconds >= 5", name="accounts_interval"),
)
servers = Table(
    "servers",
    metadata,
    Column("account_id", ForeignKey(accounts.c.id, ondelete="CASCADE"), primary_key=True),
    Column("protocol", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("sealed_password", LargeBinary, nullable=False),
    CheckConstraint("protocol IN ('imap', 'smtp')", name="servers_protocol"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="servers_port"),
    CheckConstraint("tls IN ('implicit', 'starttls', 'none')", name="servers_tls"),
    # The last line of defence for passwords; mailroom.tls.is_loopback is the first.
    CheckConstraint(
        r"tls <> 'none' OR host ~ '^(localhost|::1|127(\.\d{1,3}){3})$'", name="servers_plain"
    ),
)
folders = Table(
    "folders",
    metadata,
    Column("account_id", ForeignKey(accounts.c.id, ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    CheckConstraint("role IN ('inbox', 'sent', 'junk', 'archive', 'other')", name="folders_role"),
)
account_states = Table(
    "account_states",
    metadata,
    Column("account_id", ForeignKey(accounts.c.id, ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("observed_at", DateTime(timezone=True), nullable=False),
    Column("mails", BigInteger, nullable=False),
    CheckConstraint("state IN ('ok', 'failing')", name="account_states_state"),
)
revision = Table(
    "revision",
    metadata,
    # In one row: another one as soon as something that a view shows has changed.
    Column("id", Uuid, primary_key=True),
)
publishers = _named("publishers")
publisher_accounts = Table(
    "publisher_accounts",
    metadata,
    Column("publisher_id", ForeignKey(publishers.c.id, ondelete="CASCADE"), primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), primary_key=True, index=True),
)
