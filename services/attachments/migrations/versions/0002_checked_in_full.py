"""What the full check keeps of a file beside its bytes, and the draft that a file belongs to."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; files that are there already have no preview and are kept as they were uploaded."""
    for statement in COLUMNS.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    for column in ("kept_size", "kept_sha256", "cleaned", "preview_key", "preview_version", "draft"):
        op.drop_column("attachments", column)


COLUMNS = """
ALTER TABLE attachments
    ADD COLUMN kept_size bigint,
    ADD COLUMN kept_sha256 bytea,
    ADD COLUMN cleaned boolean NOT NULL DEFAULT false,
    ADD COLUMN preview_key text,
    ADD COLUMN preview_version text,
    ADD COLUMN draft uuid;
CREATE INDEX attachments_of_draft ON attachments (draft)
    WHERE sent_at IS NULL AND state <> 'removed' AND draft IS NOT NULL;
"""
