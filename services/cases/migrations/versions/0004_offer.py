"""What clinics have ready: templates beside case types, national and regional ones, standard answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004_offer"
down_revision = "0003_log_review"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "central_case_types",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("information", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("components", JSONB, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.CheckConstraint("level IN ('national', 'regional')", name="central_case_types_level"),
        sa.CheckConstraint("purpose IN ('resident', 'information', 'questions')", name="central_case_types_purpose"),
    )
    op.add_column("case_types", sa.Column("purpose", sa.Text, nullable=False, server_default=sa.text("'resident'")))
    op.add_column("case_types", sa.Column("description", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("case_types", sa.Column("central", sa.Uuid, sa.ForeignKey("central_case_types.id")))
    op.create_check_constraint(
        "case_types_purpose", "case_types", "purpose IN ('resident', 'information', 'questions')"
    )
    op.create_index(
        "case_types_of_central",
        "case_types",
        ["central", "clinic"],
        unique=True,
        postgresql_where="central IS NOT NULL",
    )
    for column in ("information", "text"):
        op.add_column("case_type_forms", sa.Column(column, sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_table(
        "standard_answers",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("clinic", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
    )
    op.create_index("standard_answers_of_clinic", "standard_answers", ["clinic", "title", "id"])


def downgrade() -> None:
    # Without its purpose a template would look like something that residents may start.
    op.execute("UPDATE case_types SET active = false WHERE purpose <> 'resident'")
    op.drop_table("standard_answers")
    op.drop_column("case_type_forms", "information")
    op.drop_column("case_type_forms", "text")
    for column in ("central", "description", "purpose"):
        op.drop_column("case_types", column)
    op.drop_table("central_case_types")
