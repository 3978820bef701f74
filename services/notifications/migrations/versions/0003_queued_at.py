"""Since when a delivery waits to be sent: a provider that stays down makes it a visible failure after a day."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "null: since it was created; else since it was sent again by hand"
    op.add_column("deliveries", sa.Column("queued_at", sa.DateTime(timezone=True), comment=comment))


def downgrade() -> None:
    op.drop_column("deliveries", "queued_at")
