"""For which delivery another has stood back: both owners of an address learn it when mail comes back from it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    note = "the delivery at the same address, of one that stood back for it"
    op.add_column("deliveries", sa.Column("merged_into", sa.Uuid, comment=note))


def downgrade() -> None:
    op.drop_column("deliveries", "merged_into")
