"""Messages of other systems: their titles, sealed, and which of them stand together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_system_messages"
down_revision = "0009_mailings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("title", sa.LargeBinary))
    op.add_column("cases", sa.Column("thread", sa.Uuid))
    op.create_index(
        "cases_of_thread", "cases", ["resident", "thread"], unique=True, postgresql_where="thread IS NOT NULL"
    )
    op.drop_constraint("case_types_purpose", "case_types")
    op.create_check_constraint(
        "case_types_purpose", "case_types", "purpose IN ('resident', 'information', 'questions', 'system')"
    )


def downgrade() -> None:
    op.drop_constraint("case_types_purpose", "case_types")
    op.create_check_constraint(
        "case_types_purpose", "case_types", "purpose IN ('resident', 'information', 'questions')"
    )
    op.drop_index("cases_of_thread", "cases")
    op.drop_column("cases", "thread")
    op.drop_column("cases", "title")
