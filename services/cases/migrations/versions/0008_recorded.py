"""Whether a case is in the medical record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008_recorded"
down_revision = "0007_replies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("recorded_at", sa.DateTime(timezone=True)))
    op.add_column("cases", sa.Column("recorded_by", sa.Text))
    op.add_column("cases", sa.Column("recorded_version", sa.Integer))


def downgrade() -> None:
    for column in ("recorded_version", "recorded_by", "recorded_at"):
        op.drop_column("cases", column)
