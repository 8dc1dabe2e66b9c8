"""Users, groups, mailboxes, accounts, publishers, and the views that others read."""

import sqlalchemy as sa
from alembic import op

from mailroom.migrations import create_messaging_tables, grant_schema

revision = "0001"
down_revision = None

SCHEMA = "directory"

VIEWS = {
    # Who may read a view stands beside it: exactly the roles that need it.
    "accounts_v1": (
        ["fetcher", "router", "ticketing", "sender"],
        """
        SELECT a.id, a.name, a.address, a.display_name, a.mailbox_id AS mailbox,
               i.host AS imap_host, i.port AS imap_port, i.tls AS imap_tls, i.username AS imap_user,
               s.host AS smtp_host, s.port AS smtp_port, s.tls AS smtp_tls, s.username AS smtp_user,
               coalesce(
                   (SELECT jsonb_agg(jsonb_build_object('name', f.name, 'role', f.role)
                                     ORDER BY f.name)
                    FROM directory.folders f WHERE f.account_id = a.id), '[]') AS folders,
               a.sent, a.sent_folder, a.unknown, a.start, a.interval_seconds AS "interval",
               a.calendar, a.timezone, a.idle, a.enabled
        FROM directory.accounts a
        LEFT JOIN directory.servers i ON i.account_id = a.id AND i.protocol = 'imap'
        LEFT JOIN directory.servers s ON s.account_id = a.id AND s.protocol = 'smtp'
        """,
    ),
    "credentials_v1": (
        ["fetcher", "sender"],
        "SELECT account_id AS account, protocol, sealed_password FROM directory.servers",
    ),
    "mailboxes_v1": (
        ["router", "ticketing"],
        """
        SELECT m.id, m.name, m.kind,
               coalesce(
                   (SELECT jsonb_agg(a.address ORDER BY a.address)
                    FROM directory.mailbox_addresses a WHERE a.mailbox_id = m.id), '[]')
               AS addresses,
               m.owner_id AS owner
        FROM directory.mailboxes m
        """,
    ),
    "publishers_v1": (
        ["sender"],
        """
        SELECT p.name AS publisher, a.account_id AS account
        FROM directory.publishers p
        JOIN directory.publisher_accounts a ON a.publisher_id = p.id
        """,
    ),
}


def upgrade() -> None:
    create_messaging_tables(SCHEMA)
    _people()
    _mailboxes()
    _accounts()
    _publishers()
    grant_schema(SCHEMA, role="mailroom_directory")
    _views()


def _named(name: str, *columns: sa.Column[object] | sa.CheckConstraint) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        *columns,
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_index(f"{name}_name", name, [sa.text("lower(name)")], unique=True, schema=SCHEMA)


def _reference(to: str, ondelete: str | None = None) -> sa.ForeignKey:
    return sa.ForeignKey(f"{SCHEMA}.{to}.id", ondelete=ondelete)


def _index(table: str, column: str) -> None:
    op.create_index(f"ix_{SCHEMA}_{table}_{column}", table, [column], schema=SCHEMA)


def _people() -> None:
    _named(
        "users",
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("address", sa.Text),
    )
    _named("groups")
    op.create_table(
        "memberships",
        sa.Column("group_id", sa.Uuid, _reference("groups", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_id", sa.Uuid, _reference("users", ondelete="CASCADE"), primary_key=True),
        schema=SCHEMA,
    )
    _index("memberships", "user_id")


def _mailboxes() -> None:
    _named(
        "mailboxes",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Uuid, _reference("users")),
        sa.CheckConstraint("kind IN ('central', 'private')", name="mailboxes_kind"),
        sa.CheckConstraint("(kind = 'private') = (owner_id IS NOT NULL)", name="mailboxes_owner"),
    )
    _index("mailboxes", "owner_id")
    mailbox = _reference("mailboxes", ondelete="CASCADE")
    op.create_table(
        "mailbox_addresses",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("mailbox_id", sa.Uuid, mailbox, nullable=False),
        sa.CheckConstraint("address = lower(address)", name="mailbox_addresses_lower"),
        schema=SCHEMA,
    )
    _index("mailbox_addresses", "mailbox_id")
    mailbox = _reference("mailboxes", ondelete="CASCADE")
    op.create_table(
        "rights",
        sa.Column("mailbox_id", sa.Uuid, mailbox, primary_key=True),
        sa.Column("group_id", sa.Uuid, _reference("groups"), primary_key=True),
        sa.Column("level", sa.Text, nullable=False),
        sa.CheckConstraint("level IN ('read', 'write')", name="rights_level"),
        schema=SCHEMA,
    )
    _index("rights", "group_id")


def _accounts() -> None:
    _named(
        "accounts",
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("mailbox_id", sa.Uuid, _reference("mailboxes"), nullable=False),
        sa.Column("sent", sa.Text, nullable=False),
        sa.Column("sent_folder", sa.Text),
        sa.Column("unknown", sa.Text, nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("interval_seconds", sa.Integer, nullable=False),
        sa.Column("calendar", sa.Text),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("idle", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.CheckConstraint("sent IN ('append', 'server')", name="accounts_sent"),
        sa.CheckConstraint("unknown IN ('resend', 'hold')", name="accounts_unknown"),
        sa.CheckConstraint("interval_seconds >= 5", name="accounts_interval"),
    )
    _index("accounts", "mailbox_id")
    _servers()
    _of_an_account(
        "folders",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.CheckConstraint(
            "role IN ('inbox', 'sent', 'junk', 'archive', 'other')", name="folders_role"
        ),
    )
    _of_an_account(
        "account_states",
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mails", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state IN ('ok', 'failing')", name="account_states_state"),
    )


def _of_an_account(name: str, *columns: sa.Column[object] | sa.CheckConstraint) -> None:
    account = _reference("accounts", ondelete="CASCADE")
    op.create_table(
        name, sa.Column("account_id", sa.Uuid, account, primary_key=True), *columns, schema=SCHEMA
    )


def _servers() -> None:
    _of_an_account(
        "servers",
        sa.Column("protocol", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("tls", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("sealed_password", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("protocol IN ('imap', 'smtp')", name="servers_protocol"),
        sa.CheckConstraint("port BETWEEN 1 AND 65535", name="servers_port"),
        sa.CheckConstraint("tls IN ('implicit', 'starttls', 'none')", name="servers_tls"),
        sa.CheckConstraint(
            r"tls <> 'none' OR host ~ '^(localhost|::1|127(\.\d{1,3}){3})$'", name="servers_plain"
        ),
    )


def _publishers() -> None:
    _named("publishers")
    publisher = _reference("publishers", ondelete="CASCADE")
    op.create_table(
        "publisher_accounts",
        sa.Column("publisher_id", sa.Uuid, publisher, primary_key=True),
        sa.Column("account_id", sa.Uuid, _reference("accounts"), primary_key=True),
        schema=SCHEMA,
    )
    _index("publisher_accounts", "account_id")


def _views() -> None:
    for view, (services, query) in VIEWS.items():
        op.execute(f"CREATE VIEW {SCHEMA}.{view} AS {query}")
        for service in services:
            op.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO mailroom_{service}")
            op.execute(f"GRANT SELECT ON {SCHEMA}.{view} TO mailroom_{service}")
