"""How many codes an address has been sent in a day."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes it away."""
    op.drop_table("codes_a_day")


TABLES = """
CREATE TABLE codes_a_day (
    day date NOT NULL,
    address bytea NOT NULL,
    sent smallint NOT NULL,
    PRIMARY KEY (day, address)
);
COMMENT ON TABLE codes_a_day IS
    'How many codes an address, by its hash, has been sent in a day, whoever had them sent (R-NOT-9).'
"""
