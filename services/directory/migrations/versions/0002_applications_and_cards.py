"""Applications, the link to a clinic's former HSA-id, warnings as told, contact cards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("clinics", sa.Column("replaces", sa.Text, sa.ForeignKey("clinics.hsa_id")))
    op.add_column("clinics", sa.Column("told_warning", sa.Text))
    op.create_check_constraint("clinics_told_warning", "clinics", "told_warning IN ('not_in_directory', 'ended')")
    op.create_index("clinics_replaces", "clinics", ["replaces"], postgresql_where=sa.text("replaces IS NOT NULL"))
    op.create_table(
        "applications",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("clinic", sa.Text, sa.ForeignKey("units.hsa_id"), nullable=False),
        sa.Column("replaces", sa.Text, sa.ForeignKey("clinics.hsa_id")),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("applied_by", sa.Text, nullable=False),
        sa.Column("applied_at", MOMENT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", MOMENT),
        sa.CheckConstraint("state IN ('waiting', 'approved', 'refused')", name="applications_state"),
        comment="Applications for units to become clinics; one at a time waits for each unit.",
    )
    op.create_index("applications_in_order", "applications", ["applied_at", "id"])
    op.create_index("applications_by_person", "applications", ["applied_by", "applied_at", "id"])
    op.create_index(
        "applications_waiting",
        "applications",
        ["clinic"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "cards",
        sa.Column("clinic", sa.Text, sa.ForeignKey("clinics.hsa_id"), primary_key=True),
        sa.Column("text", sa.Text, nullable=False, server_default=""),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("updated_at", MOMENT),
        sa.Column("updated_by", sa.Text),
        sa.Column("regional_order", sa.ARRAY(sa.Uuid)),
        sa.Column("ordered_at", MOMENT),
        sa.Column("ordered_by", sa.Text),
        comment="What people have written about a clinic: the logged-in card, the region's order of case types.",
    )
    op.create_table(
        "public_cards",
        sa.Column("clinic", sa.Text, sa.ForeignKey("clinics.hsa_id"), primary_key=True),
        sa.Column("card", JSONB, nullable=False),
        sa.Column("published_at", MOMENT, nullable=False),
        comment="Public contact cards as last published. published_at: since when it says what it says.",
    )


def downgrade() -> None:
    for table in ("public_cards", "cards", "applications"):
        op.drop_table(table)
    op.drop_index("clinics_replaces", "clinics")
    op.drop_constraint("clinics_told_warning", "clinics")
    op.drop_column("clinics", "told_warning")
    op.drop_column("clinics", "replaces")
