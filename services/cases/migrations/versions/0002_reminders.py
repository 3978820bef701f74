"""When the resident is reminded of a counter-question; cases that stand with a clinic in the order of their silence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_reminders"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("remind_at", sa.DateTime(timezone=True)))
    # Who is asked now is reminded too, at once where the week has begun.
    op.execute(
        "UPDATE cases SET remind_at = answer_before - interval '7 days'"
        " WHERE state = 'awaiting_resident' AND answer_before IS NOT NULL"
    )
    op.create_index("cases_to_remind_of", "cases", ["remind_at", "id"], postgresql_where="remind_at IS NOT NULL")
    op.create_index(
        "cases_with_clinic",
        "cases",
        ["clinic", "latest_message_at"],
        postgresql_where="state IN ('new', 'assigned')",
    )


def downgrade() -> None:
    op.drop_index("cases_with_clinic", "cases")
    op.drop_index("cases_to_remind_of", "cases")
    op.drop_column("cases", "remind_at")
