"""The sender's tables, in its own schema.

Invariant: one row of `requests` for each (publisher, idempotency_key), kept 400 days: that is why a
mail leaves once. A request holds no body: the composed mail is an object in the store.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from mailroom.messaging.tables import messaging_tables

metadata = MetaData(schema="sender")
messaging = messaging_tables(metadata)

_MAIL = "sender.requests.mail"


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


requests = Table(
    "requests",
    metadata,
    Column("mail", Uuid, primary_key=True),
    Column("publisher", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("correlation_id", Text, nullable=False, index=True),
    Column("account", Uuid, nullable=False),
    Column("sender", Text, nullable=False),
    Column("message_id", Text, nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("asked", JSONB, nullable=False),
    Column("raw_sha256", Text, nullable=False),
    Column("raw_size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # When the next try is due; null when none is.
    _moment("due", nullable=True),
    # The last try did not reach the server: it is tried at once when the server is heard again.
    Column("waits_for_server", Boolean, nullable=False, server_default=text("false")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("unknowns", Integer, nullable=False, server_default=text("0")),
    _moment("first_due"),
    _moment("expires_at", nullable=True),
    _moment("accepted_at"),
    _moment("sent_at", nullable=True),
    _moment("ended_at", nullable=True),
    UniqueConstraint("publisher", "idempotency_key"),
    Index("requests_due", "account", "due", postgresql_where=text("due IS NOT NULL")),
    Index("requests_sending", "account", postgresql_where=text("state = 'sending'")),
    Index("requests_accepted_at", "accepted_at"),
)

recipients = Table(
    "recipients",
    metadata,
    Column("mail", Uuid, ForeignKey(_MAIL, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Integer),
    Column("reply", Text, nullable=False, server_default=text("''")),
    # The answer to DATA for it is not known.
    Column("doubtful", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("mail", "number"),
    UniqueConstraint("mail", "address"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("mail", Uuid, ForeignKey(_MAIL, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("account", Uuid, nullable=False),
    Column("replica", Text, nullable=False),
    _moment("started_at"),
    _moment("ended_at", nullable=True),
    # What the server said of each recipient before DATA: {address: [code, text]}.
    Column("offered", JSONB, nullable=False, server_default=text("'{}'")),
    # Null from the commit before DATA to the commit after it.
    Column("outcome", Text),
    Column("code", Integer),
    Column("reply", Text, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("mail", "number"),
    Index("attempts_recent", "account", "started_at"),
)

copies = Table(
    "copies",
    metadata,
    Column("mail", Uuid, ForeignKey(_MAIL, ondelete="CASCADE"), primary_key=True),
    Column("account", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    _moment("due", nullable=True),
    # Above 0 an APPEND may have been made: look before another.
    Column("tries", Integer, nullable=False, server_default=text("0")),
    _moment("created_at"),
    _moment("ended_at", nullable=True),
    Column("folder", Text),
    Column("uidvalidity", BigInteger),
    Column("uid", BigInteger),
    Column("problem", Text, nullable=False, server_default=text("''")),
    Index("copies_due", "account", "due", postgresql_where=text("due IS NOT NULL")),
)

rejections = Table(
    "rejections",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("publisher", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("event_id", Text, nullable=False, index=True),
    Column("correlation_id", Text, nullable=False),
    Column("errors", JSONB, nullable=False),
    Column("rejected_at", DateTime(timezone=True), nullable=False, index=True),
)

cancellations = Table(
    "cancellations",
    metadata,
    Column("publisher", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("cancelled_at", DateTime(timezone=True), nullable=False, index=True),
    PrimaryKeyConstraint("publisher", "idempotency_key"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("publisher", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("uploaded_at", DateTime(timezone=True), nullable=False, index=True),
    PrimaryKeyConstraint("publisher", "sha256"),
)

bounces = Table(
    "bounces",
    metadata,
    Column("mail", Uuid, ForeignKey(_MAIL, ondelete="CASCADE"), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("report", Uuid, nullable=False),
    Column("action", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("hard", Boolean, nullable=False),
    _moment("bounced_at"),
    PrimaryKeyConstraint("mail", "recipient", "report"),
)

leases = Table(
    "leases",
    metadata,
    Column("account", Uuid, nullable=False),
    # "send" or "file": a slow IMAP server shall not hold up what is to be sent.
    Column("work", Text, nullable=False),
    Column("holder", Text),
    # Grows with each sign of life: others take over when they have not seen it grow for long.
    Column("beat", BigInteger, nullable=False, server_default=text("0")),
    # The account's server could not be reached, or refused the login: leave it alone until then.
    _moment("rests_until", nullable=True),
    PrimaryKeyConstraint("account", "work"),
)
