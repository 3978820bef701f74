"""The same case with many residents: mailings, and what became of each recipient."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_mailings"
down_revision = "0008_recorded"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "mailings",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("clinic", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("case_type", sa.Uuid, sa.ForeignKey("case_types.id"), nullable=False),
        sa.Column("case_type_name", sa.Text, nullable=False),
        sa.Column("form_version", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("recipients", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("sent_from", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.CheckConstraint("state IN ('draft', 'sending', 'done', 'cancelled', 'stopped')", name="mailings_state"),
    )
    op.create_index("mailings_sending", "mailings", ["sent_from", "id"], postgresql_where="state = 'sending'")
    op.create_table(
        "mailing_recipients",
        sa.Column("mailing", sa.Uuid, sa.ForeignKey("mailings.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("resident", sa.Uuid, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("case_id", sa.Uuid),
    )
    op.create_index("mailing_recipients_once", "mailing_recipients", ["mailing", "resident"], unique=True)
    op.create_index("mailing_recipients_by_result", "mailing_recipients", ["mailing", "result", "position"])


def downgrade() -> None:
    op.drop_table("mailing_recipients")
    op.drop_table("mailings")
