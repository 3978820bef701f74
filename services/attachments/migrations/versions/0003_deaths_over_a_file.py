"""Which checks ended without a verdict while nothing but the file was there to blame.

`takeovers` stays and is counted, but refuses nothing any more: checkers of both versions may run side by side.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; nothing is held against a file that is being checked now."""
    op.execute("ALTER TABLE attachments ADD COLUMN suspects uuid[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("attachments", "suspects")
