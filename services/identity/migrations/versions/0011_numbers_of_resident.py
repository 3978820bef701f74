"""All numbers of a resident are found: at every question about access, and for every page that is refreshed."""

from alembic import op

from shared.database import gradual

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    gradual.create_index(op, "identity_numbers_resident", "identity_numbers", ["resident"])


def downgrade() -> None:
    """Takes it away."""
    op.drop_index("identity_numbers_resident", "identity_numbers")
