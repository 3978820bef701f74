"""Since when someone who worked at a clinic holds no role there, so that they are not remembered for ever."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    note = "since when they were seen to hold no role there; null: they hold one"
    op.add_column("clinic_staff", sa.Column("left_at", sa.DateTime(timezone=True), comment=note))


def downgrade() -> None:
    op.drop_column("clinic_staff", "left_at")
