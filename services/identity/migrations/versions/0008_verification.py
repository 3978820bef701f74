"""Which addresses people have verified, and the codes that are under way."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their tables."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    op.drop_table("address_codes")
    op.drop_table("verified_addresses")


TABLES = """
CREATE TABLE verified_addresses (
    kind text NOT NULL,
    person text NOT NULL,
    channel text NOT NULL,
    address bytea NOT NULL,
    verified_at timestamptz NOT NULL,
    PRIMARY KEY (kind, person, channel, address)
);
COMMENT ON TABLE verified_addresses IS
    'Addresses, by their hash, of which people have shown that they are their own (R-NOT-9).';

CREATE TABLE address_codes (
    kind text NOT NULL,
    person text NOT NULL,
    channel text NOT NULL,
    address bytea NOT NULL,
    code bytea NOT NULL,
    sent_at timestamptz NOT NULL,
    attempts smallint NOT NULL,
    sent smallint NOT NULL,
    counted_from timestamptz NOT NULL,
    PRIMARY KEY (kind, person, channel)
);
CREATE INDEX address_codes_sent_at ON address_codes (sent_at);
COMMENT ON TABLE address_codes IS
    'Codes that are to be given back, hashed with their owner; how many were sent within an hour.'
"""
