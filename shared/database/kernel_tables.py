"""The tables that every service has beside its own, in its own database.

The first migration of each service makes them with `create(op)`. That form is fixed from then on: a later change is a
function of its own here, called by a new migration of each service.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

requests = Table(
    "requests",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("caller", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("reply", LargeBinary),
    Column("at", DateTime(timezone=True), nullable=False),
    Index("requests_at", "at", postgresql_using="brin"),
    comment="Calls that changed something, with their sealed replies: a repeated one gets the same reply.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("aggregatetype", Text, nullable=False),
    Column("aggregateid", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    comment="Events on their way to the broker, written with their cause; the relay removes what the broker has.",
)

inbox = Table(
    "inbox",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Index("inbox_at", "at", postgresql_using="brin"),
    comment="Events that have taken effect here, written with their effect.",
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_due", DateTime(timezone=True)),
    Column("last_started", DateTime(timezone=True)),
    Column("last_finished", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("run", Uuid),
    comment="What has been run and for which due time; run: whose turn it is, so that one who lost it can do no more.",
)

rights_state = Table(
    "rights_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, server_default="1"),
    Column("applied", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("id = 1", name="rights_state_one_row"),
    comment="The number up to which every change of rights has been taken in.",
)

rights_pending = Table(
    "rights_pending",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    comment="Changes of rights taken in before one of a lower number.",
)

rights_subjects = Table(
    "rights_subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("roles", JSONB, nullable=False),
    Column("regional", Boolean, nullable=False),
    # for `people_with`, which is asked for each new case
    Index("rights_subjects_roles", "roles", postgresql_using="gin", postgresql_ops={"roles": "jsonb_path_ops"}),
    comment="The rights of each person as last told by identity.",
)

ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("session", Uuid, primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False),
    comment="Sessions that have ended, kept until none of their tokens lives.",
)

_QUEUE_LIKE = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"


def create(op: Any) -> None:
    """Makes the tables; `op` is alembic's."""
    metadata.create_all(op.get_bind(), checkfirst=False)
    op.execute("INSERT INTO rights_state (id, applied) VALUES (1, 0)")
    # A request's reply is written in a second step: room in the page lets that step leave the index alone.
    op.execute("ALTER TABLE requests SET (fillfactor = 70)")
    # Rows come and go; what is dead must be cleared before the table of live ones looks like a long one.
    op.execute(f"ALTER TABLE outbox SET ({_QUEUE_LIKE})")


def drop(op: Any) -> None:
    """Removes the tables; `op` is alembic's."""
    metadata.drop_all(op.get_bind(), checkfirst=False)
