"""Disturbances."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their table."""
    op.execute(
        """CREATE TABLE disturbances (
            disturbance uuid PRIMARY KEY,
            title text NOT NULL,
            text text NOT NULL,
            shown_from timestamptz NOT NULL,
            shown_until timestamptz,
            published_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL,
            changed_by text NOT NULL
        )"""
    )
    op.execute("COMMENT ON TABLE disturbances IS 'Told to everyone, without login, while they are shown (R-ID-20).'")


def downgrade() -> None:
    """Takes it away."""
    op.drop_table("disturbances")
