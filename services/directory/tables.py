"""What the directory stores: the copy of units and staff, the clinics, and how the copy came about."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
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
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

MOMENT = DateTime(timezone=True)

units = Table(
    "units",
    metadata,
    Column("hsa_id", Text, primary_key=True),
    Column("dn", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("place", Text),
    Column("county_code", Text),
    Column("municipality_code", Text),
    Column("care_provider", Text),
    Column("rt90_x", Integer),
    Column("rt90_y", Integer),
    Column("business_types", ARRAY(Text), nullable=False),
    Column("care_types", ARRAY(Text), nullable=False),
    Column("destinations", ARRAY(Text), nullable=False),
    Column("start_date", MOMENT),
    Column("end_date", MOMENT),
    Column("details", JSONB, nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("refused", JSONB(none_as_null=True)),
    Column("sort_name", Text, nullable=False),
    Column("search", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("source", Text, nullable=False),
    Column("missing_runs", SmallInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("changed_at", MOMENT, nullable=False),
    Index("units_by_name", "sort_name", "hsa_id"),
    # Made where the extension pg_trgm is to be had; searching works without, slower.
    Index("units_search", "search", postgresql_using="gin", postgresql_ops={"search": "gin_trgm_ops"}),
    Index("units_refused", "source", postgresql_where=text("refused IS NOT NULL")),
    comment="Units and functions as the directory has them: in types, and as they came. A row is never removed.",
)

staff = Table(
    "staff",
    metadata,
    Column("hsa_id", Text, primary_key=True),
    Column("given_name", Text),
    Column("surname", Text),
    Column("title", Text),
    Column("email", Text),
    Column("mobile", Text),
    Column("protected", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("end_date", MOMENT),
    Column("refused", JSONB(none_as_null=True)),
    Column("content", LargeBinary),
    Column("source", Text, nullable=False),
    Column("missing_runs", SmallInteger, nullable=False, server_default="0"),
    Column("found", Boolean, nullable=False, server_default="true"),
    Column("status", Text, nullable=False),
    Column("asked_at", MOMENT),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("changed_at", MOMENT, nullable=False),
    CheckConstraint("status IN ('fine', 'missing')", name="staff_status"),
    Index("staff_end_dates", "end_date", postgresql_where=text("status = 'fine' AND end_date IS NOT NULL")),
    Index("staff_refused", "source", postgresql_where=text("refused IS NOT NULL")),
    comment="Staff as last told: by a run (content, source, missing_runs) or by a direct question (asked_at, found). "
    "status is the one last published.",
)

clinics = Table(
    "clinics",
    metadata,
    Column("hsa_id", ForeignKey("units.hsa_id"), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("activated_at", MOMENT, nullable=False),
    Column("activated_by", Text, nullable=False),
    Column("inactivated_at", MOMENT),
    Column("inactivated_by", Text),
    Column("replaces", ForeignKey("clinics.hsa_id")),
    Column("told_warning", Text),
    CheckConstraint("told_warning IN ('not_in_directory', 'ended')", name="clinics_told_warning"),
    Index("clinics_replaces", "replaces", postgresql_where=text("replaces IS NOT NULL")),
    comment="Units that are or have been clinics in the e-services. replaces: the clinic's former HSA-id. "
    "told_warning is the warning last published.",
)

applications = Table(
    "applications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("clinic", ForeignKey("units.hsa_id"), nullable=False),
    Column("replaces", ForeignKey("clinics.hsa_id")),
    Column("note", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("applied_by", Text, nullable=False),
    Column("applied_at", MOMENT, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", MOMENT),
    CheckConstraint("state IN ('waiting', 'approved', 'refused')", name="applications_state"),
    Index("applications_in_order", "applied_at", "id"),
    Index("applications_by_person", "applied_by", "applied_at", "id"),
    Index("applications_waiting", "clinic", unique=True, postgresql_where=text("state = 'waiting'")),
    comment="Applications for units to become clinics; one at a time waits for each unit.",
)

cards = Table(
    "cards",
    metadata,
    Column("clinic", ForeignKey("clinics.hsa_id"), primary_key=True),
    Column("text", Text, nullable=False, server_default=""),
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("updated_at", MOMENT),
    Column("updated_by", Text),
    Column("regional_order", ARRAY(Uuid)),
    Column("ordered_at", MOMENT),
    Column("ordered_by", Text),
    comment="What people have written about a clinic: the logged-in card, the region's order of case types.",
)

public_cards = Table(
    "public_cards",
    metadata,
    Column("clinic", ForeignKey("clinics.hsa_id"), primary_key=True),
    Column("card", JSONB, nullable=False),
    Column("published_at", MOMENT, nullable=False),
    comment="Public contact cards as last published. published_at: since when it says what it says.",
)

sync_runs = Table(
    "sync_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source", Text),
    Column("accept_removals", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("requested_at", MOMENT, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("started_at", MOMENT),
    Column("finished_at", MOMENT),
    Column("counts", JSONB, nullable=False, server_default="{}"),
    CheckConstraint("state IN ('requested', 'running', 'done', 'stopped', 'failed')", name="sync_runs_state"),
    Index("sync_runs_waiting", "requested_at", postgresql_where=text("state IN ('requested', 'running')")),
)

sync_refused = Table(
    "sync_refused",
    metadata,
    Column("run", ForeignKey("sync_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("object", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    comment="What a run could not take. The value itself stands with the object, never here.",
)

source_states = Table(
    "source_states",
    metadata,
    Column("source", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("state", JSONB, nullable=False),
    Column("refused", JSONB, nullable=False, server_default="[]"),
    Column("confirmed_at", MOMENT, nullable=False),
    comment="What each source held when it was last read whole, and when that was known to be still so.",
)

hsa_pace = Table(
    "hsa_pace",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, server_default="1"),
    Column("last_call", MOMENT, nullable=False),
    CheckConstraint("id = 1", name="hsa_pace_one_row"),
    comment="When HSA's latest answer came, by the database's clock: the next question waits a little after it.",
)
