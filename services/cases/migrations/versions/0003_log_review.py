"""The access log is searched by who has read, and drawn from by period."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0003_log_review"
down_revision = "0002_reminders"
branch_labels = None
depends_on = None


def upgrade() -> None:
    gradual.create_index(op, "access_log_of_person", "access_log", ["clinic", "person", sa.text("entry DESC")])
    gradual.create_index(op, "access_log_of_period", "access_log", ["clinic", "at"])


def downgrade() -> None:
    op.drop_index("access_log_of_period", "access_log")
    op.drop_index("access_log_of_person", "access_log")
