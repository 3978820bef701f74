"""What a login is for, the terms as they were accepted, the keys of tokens, and whom to look up again."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them."""
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    op.drop_table("signing_keys")
    op.drop_table("terms_texts")
    op.drop_index("residents_looked_up_at")
    op.drop_column("logins", "purpose")


STATEMENTS = """
ALTER TABLE logins ADD COLUMN purpose text NOT NULL DEFAULT 'session'
    CONSTRAINT logins_purpose CHECK (purpose IN ('session', 'unlock', 'card'));

CREATE INDEX residents_looked_up_at ON residents (looked_up_at, resident);

CREATE TABLE terms_texts (
    kind text NOT NULL,
    version text NOT NULL,
    text text NOT NULL,
    first_accepted_at timestamptz NOT NULL,
    PRIMARY KEY (kind, version)
);
COMMENT ON TABLE terms_texts IS
    'The terms as they were accepted; a version never changes. Nothing here is ever changed or removed.';
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON terms_texts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    sealed bytea NOT NULL,
    endorsed text NOT NULL,
    made_at timestamptz NOT NULL,
    signs_until timestamptz NOT NULL,
    trusted_until timestamptz NOT NULL
);
COMMENT ON TABLE signing_keys IS
    'Keys that access tokens are signed with. sealed: the private key; endorsed: the public one, signed.'
"""
