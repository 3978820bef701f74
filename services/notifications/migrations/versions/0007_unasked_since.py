"""Since when no provider could be asked to take a delivery: only that, for a day, makes it a visible failure."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    note = "since when no provider could be asked to take it"
    op.add_column("deliveries", sa.Column("unasked_since", sa.DateTime(timezone=True), comment=note))


def downgrade() -> None:
    op.drop_column("deliveries", "unasked_since")
