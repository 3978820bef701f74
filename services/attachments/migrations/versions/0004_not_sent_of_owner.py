"""Finds what an owner has that is not sent, removed files too: they count for a while."""

from alembic import op

from shared.database import gradual

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OWNER = ["owner_kind", "owner"]


def upgrade() -> None:
    gradual.create_index(op, "attachments_not_sent_of_owner", "attachments", OWNER, where="sent_at IS NULL")
    op.execute("DROP INDEX attachments_unsent_of_owner")


def downgrade() -> None:
    unsent = "sent_at IS NULL AND state <> 'removed'"
    gradual.create_index(op, "attachments_unsent_of_owner", "attachments", OWNER, where=unsent)
    op.execute("DROP INDEX attachments_not_sent_of_owner")
