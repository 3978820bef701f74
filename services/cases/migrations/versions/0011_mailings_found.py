"""Mailings are found: by who is in them, by clinic, and those that nobody goes on with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0011_mailings_found"
down_revision = "0010_system_messages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    changed_at = sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
    op.add_column("mailings", changed_at, if_not_exists=True)
    gradual.create_index(op, "mailings_unsent", "mailings", ["changed_at"], where="sent_from IS NULL")
    gradual.create_index(op, "mailings_of_clinic", "mailings", ["clinic", "created_at", "id"])
    gradual.create_index(
        op, "mailing_recipients_of_resident", "mailing_recipients", ["resident", "mailing", "position"]
    )


def downgrade() -> None:
    op.drop_index("mailing_recipients_of_resident", "mailing_recipients")
    op.drop_index("mailings_of_clinic", "mailings")
    op.drop_index("mailings_unsent", "mailings")
    op.drop_column("mailings", "changed_at")
