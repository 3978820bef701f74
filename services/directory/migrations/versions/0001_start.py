"""The directory's first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import kernel_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    kernel_tables.create(op)
    op.create_table(
        "units",
        sa.Column("hsa_id", sa.Text, primary_key=True),
        sa.Column("dn", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("place", sa.Text),
        sa.Column("county_code", sa.Text),
        sa.Column("municipality_code", sa.Text),
        sa.Column("care_provider", sa.Text),
        sa.Column("rt90_x", sa.Integer),
        sa.Column("rt90_y", sa.Integer),
        sa.Column("business_types", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("care_types", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("destinations", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("start_date", MOMENT),
        sa.Column("end_date", MOMENT),
        sa.Column("details", JSONB, nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("refused", JSONB),
        sa.Column("sort_name", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("missing_runs", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("changed_at", MOMENT, nullable=False),
        comment="Units and functions as the directory has them: in types, and as they came. A row is never removed.",
    )
    op.create_index("units_by_name", "units", ["sort_name", "hsa_id"])
    op.create_index("units_refused", "units", ["source"], postgresql_where=sa.text("refused IS NOT NULL"))
    _trigram_index()
    op.create_table(
        "staff",
        sa.Column("hsa_id", sa.Text, primary_key=True),
        sa.Column("given_name", sa.Text),
        sa.Column("surname", sa.Text),
        sa.Column("title", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("mobile", sa.Text),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("end_date", MOMENT),
        sa.Column("refused", JSONB),
        sa.Column("content", sa.LargeBinary),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("missing_runs", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("found", sa.Boolean, nullable=False, server_default="true"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("asked_at", MOMENT),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.CheckConstraint("status IN ('fine', 'missing')", name="staff_status"),
        comment="Staff as last told: by a run (content, source, missing_runs) or by a direct question "
        "(asked_at, found). status is the one last published.",
    )
    op.create_index(
        "staff_end_dates",
        "staff",
        ["end_date"],
        postgresql_where=sa.text("status = 'fine' AND end_date IS NOT NULL"),
    )
    op.create_index("staff_refused", "staff", ["source"], postgresql_where=sa.text("refused IS NOT NULL"))
    op.create_table(
        "clinics",
        sa.Column("hsa_id", sa.Text, sa.ForeignKey("units.hsa_id"), primary_key=True),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("activated_at", MOMENT, nullable=False),
        sa.Column("activated_by", sa.Text, nullable=False),
        sa.Column("inactivated_at", MOMENT),
        sa.Column("inactivated_by", sa.Text),
        comment="Units that are or have been clinics in the e-services.",
    )
    op.create_table(
        "sync_runs",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("source", sa.Text),
        sa.Column("accept_removals", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("counts", JSONB, nullable=False, server_default="{}"),
        sa.CheckConstraint("state IN ('requested', 'running', 'done', 'stopped', 'failed')", name="sync_runs_state"),
    )
    op.create_index(
        "sync_runs_waiting",
        "sync_runs",
        ["requested_at"],
        postgresql_where=sa.text("state IN ('requested', 'running')"),
    )
    op.create_table(
        "sync_refused",
        sa.Column("run", sa.Uuid, sa.ForeignKey("sync_runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        comment="What a run could not take. The value itself stands with the object, never here.",
    )
    op.create_table(
        "source_states",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("part", sa.Text, primary_key=True),
        sa.Column("state", JSONB, nullable=False),
        sa.Column("refused", JSONB, nullable=False, server_default="[]"),
        sa.Column("confirmed_at", MOMENT, nullable=False),
        comment="What each source held when it was last read whole, and when that was known to be still so.",
    )
    op.create_table(
        "hsa_pace",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False, server_default="1"),
        sa.Column("last_call", MOMENT, nullable=False),
        sa.CheckConstraint("id = 1", name="hsa_pace_one_row"),
        comment="When HSA's latest answer came, by the database's clock: the next question waits a little after it.",
    )
    op.execute("INSERT INTO hsa_pace (id, last_call) VALUES (1, '-infinity')")


def _trigram_index() -> None:
    """Searching works without the index, slower: the extension may be absent, or not this role's to add."""
    available = op.get_bind().scalar(
        sa.text(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm')"
            " OR (EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'pg_trgm' AND (trusted OR superuser"
            " AND current_setting('is_superuser') = 'on'))"
            " AND has_database_privilege(current_database(), 'CREATE'))"
        )
    )
    if available:
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute("CREATE INDEX units_search ON units USING gin (search gin_trgm_ops)")


def downgrade() -> None:
    for table in ("hsa_pace", "source_states", "sync_refused", "sync_runs", "clinics", "staff", "units"):
        op.drop_table(table)
    kernel_tables.drop(op)
