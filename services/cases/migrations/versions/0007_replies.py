"""When a clinic first and last wrote in a case, for its statistics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_replies"
down_revision = "0006_desk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("first_reply_at", sa.DateTime(timezone=True)))
    op.add_column("cases", sa.Column("last_reply_at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE cases SET first_reply_at = reply.first, last_reply_at = reply.last"
        " FROM (SELECT case_id, min(sent_at) AS first, max(sent_at) AS last FROM messages"
        " WHERE written_by = 'staff' GROUP BY case_id) reply WHERE reply.case_id = cases.id"
    )


def downgrade() -> None:
    op.drop_column("cases", "last_reply_at")
    op.drop_column("cases", "first_reply_at")
