"""The tables that attachments begins with."""

from alembic import op

from shared.database import kernel_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the kernel's tables and the one of files."""
    kernel_tables.create(op)
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes all of it away."""
    op.drop_table("attachments")
    kernel_tables.drop(op)


TABLES = """
CREATE TABLE attachments (
    attachment uuid PRIMARY KEY,
    owner_kind text NOT NULL CONSTRAINT attachments_owner_kind CHECK (owner_kind IN ('resident', 'staff')),
    owner text NOT NULL,
    name bytea NOT NULL,
    size bigint NOT NULL,
    content_type text NOT NULL,
    sha256 bytea NOT NULL,
    state text NOT NULL CONSTRAINT attachments_state
        CHECK (state IN ('waiting', 'checking', 'usable', 'refused', 'removed')),
    refusal text,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    upload_expires_at timestamptz NOT NULL,
    look_at timestamptz,
    lease uuid,
    looks integer NOT NULL DEFAULT 0,
    takeovers integer NOT NULL DEFAULT 0,
    clean_key text,
    clean_version text,
    checked_at timestamptz,
    "case" uuid,
    message uuid,
    claimed_at timestamptz,
    sent_at timestamptz,
    sweep_at timestamptz,
    CONSTRAINT attachments_refusal CHECK ((state = 'refused') = (refusal IS NOT NULL) OR state = 'removed'),
    CONSTRAINT attachments_usable_is_kept CHECK (state <> 'usable' OR clean_version IS NOT NULL),
    CONSTRAINT attachments_sent_is_usable CHECK (sent_at IS NULL OR (message IS NOT NULL AND state = 'usable')),
    CONSTRAINT attachments_claim CHECK (message IS NULL OR (claimed_at IS NOT NULL AND "case" IS NOT NULL)),
    CONSTRAINT attachments_looked_at CHECK ((look_at IS NOT NULL) = (state IN ('waiting', 'checking')))
);
COMMENT ON TABLE attachments IS 'One row for each file, from the request for a place until nothing of it is left.';
CREATE INDEX attachments_to_look_at ON attachments (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX attachments_to_sweep ON attachments (sweep_at) WHERE sweep_at IS NOT NULL;
CREATE INDEX attachments_unsent_of_owner ON attachments (owner_kind, owner)
    WHERE sent_at IS NULL AND state <> 'removed';
CREATE INDEX attachments_unsent ON attachments (changed_at)
    WHERE sent_at IS NULL AND state <> 'removed' AND message IS NULL;
CREATE INDEX attachments_claimed ON attachments (claimed_at) WHERE message IS NOT NULL AND sent_at IS NULL;
CREATE INDEX attachments_of_message ON attachments (message) WHERE message IS NOT NULL;
"""
