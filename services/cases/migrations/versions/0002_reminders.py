"""When the resident is reminded of a counter-question; cases that stand with a clinic in the order of their silence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0002_reminders"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("remind_at", sa.DateTime(timezone=True)), if_not_exists=True)
    # Who is asked now is reminded too, at once where the week has begun.
    gradual.update(
        op,
        "cases",
        "remind_at = answer_before - interval '7 days'",
        "state = 'awaiting_resident' AND answer_before IS NOT NULL",
    )
    gradual.create_index(op, "cases_to_remind_of", "cases", ["remind_at", "id"], where="remind_at IS NOT NULL")
    gradual.create_index(
        op, "cases_with_clinic", "cases", ["clinic", "latest_message_at"], where="state IN ('new', 'assigned')"
    )


def downgrade() -> None:
    op.drop_index("cases_with_clinic", "cases")
    op.drop_index("cases_to_remind_of", "cases")
    op.drop_column("cases", "remind_at")
