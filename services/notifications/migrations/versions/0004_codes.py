"""Verification codes on their way."""

from alembic import op

from shared.database import gradual

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE IF NOT EXISTS codes (
            code_id uuid PRIMARY KEY,
            channel text NOT NULL,
            address_hash bytea NOT NULL,
            sealed bytea NOT NULL,
            worth_until timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            attempts integer NOT NULL
        )"""
    )
    op.execute("COMMENT ON COLUMN codes.sealed IS 'address and code'")
    op.execute("CREATE INDEX IF NOT EXISTS codes_due ON codes (due_at)")
    op.execute("CREATE INDEX IF NOT EXISTS codes_address ON codes (address_hash)")
    # by these a resident's deliveries are found for their subject access report
    gradual.create_index(op, "deliveries_of_recipient", "deliveries", ["recipient", "delivery"])
    gradual.create_index(op, "deliveries_about", "deliveries", ["about", "delivery"], where="about IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX deliveries_about")
    op.execute("DROP INDEX deliveries_of_recipient")
    op.drop_table("codes")
