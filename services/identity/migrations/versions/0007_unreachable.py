"""Addresses at which nobody could be reached."""

from alembic import op

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their table."""
    op.execute(
        """CREATE TABLE unreachable_addresses (
            kind text NOT NULL,
            person text NOT NULL,
            channel text NOT NULL,
            contact_version bigint NOT NULL,
            noted_at timestamptz NOT NULL,
            PRIMARY KEY (kind, person, channel)
        )"""
    )
    comment = "By which channels someone could not be reached, at what they had set."
    op.execute(f"COMMENT ON TABLE unreachable_addresses IS '{comment}'")


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP TABLE unreachable_addresses")
