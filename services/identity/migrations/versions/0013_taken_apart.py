"""Numbers and accounts that the operator has taken apart again."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; nothing in it is ever changed."""
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes it away."""
    op.drop_table("taken_apart")


STATEMENTS = """
CREATE TABLE taken_apart (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    resident uuid NOT NULL REFERENCES residents,
    other uuid REFERENCES residents,
    number bytea NOT NULL,
    by text NOT NULL
);
COMMENT ON TABLE taken_apart IS
    'Taken apart again (R-ID-24): a number (its hash) out of an account; or, with other, the account by that number.';
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON taken_apart
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""
