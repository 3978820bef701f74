"""Messages of other systems: their titles, sealed, and which of them stand together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0010_system_messages"
down_revision = "0009_mailings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("title", sa.LargeBinary), if_not_exists=True)
    op.add_column("cases", sa.Column("thread", sa.Uuid), if_not_exists=True)
    gradual.create_index(
        op, "cases_of_thread", "cases", ["resident", "thread"], unique=True, where="thread IS NOT NULL"
    )
    op.drop_constraint("case_types_purpose", "case_types")
    op.create_check_constraint(
        "case_types_purpose", "case_types", "purpose IN ('resident', 'information', 'questions', 'system')"
    )
    op.execute("UPDATE case_types SET purpose = 'system' WHERE created_by LIKE 'system:%'")  # had it before a way back


def downgrade() -> None:
    # Its cases stay and need it; out of use as it is, nobody is offered it.
    op.execute("UPDATE case_types SET purpose = 'information' WHERE purpose = 'system'")
    op.drop_constraint("case_types_purpose", "case_types")
    op.create_check_constraint(
        "case_types_purpose", "case_types", "purpose IN ('resident', 'information', 'questions')"
    )
    op.drop_index("cases_of_thread", "cases")
    # The columns stay: the version before passes them over, and what was sent is lost by nothing (R-CASE-9).
