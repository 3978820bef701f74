"""When a clinic first and last wrote in a case, for its statistics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0007_replies"
down_revision = "0006_desk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("first_reply_at", sa.DateTime(timezone=True)), if_not_exists=True)
    op.add_column("cases", sa.Column("last_reply_at", sa.DateTime(timezone=True)), if_not_exists=True)
    gradual.update(
        op,
        "cases",
        "(first_reply_at, last_reply_at) = (SELECT min(sent_at), max(sent_at) FROM messages"
        " WHERE case_id = cases.id AND written_by = 'staff')",
        "first_reply_at IS NULL AND message_count > 0",
    )


def downgrade() -> None:
    op.drop_column("cases", "last_reply_at")
    op.drop_column("cases", "first_reply_at")
