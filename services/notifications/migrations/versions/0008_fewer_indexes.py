"""Fewer indexes to keep at each step of a delivery: what is on its way, or sent, is not listed by its state."""

from alembic import op

from shared.database import gradual

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LISTED = "state NOT IN ('sent', 'claimed', 'sending')"
_UNFINISHED = "state in ('waiting', 'claimed')"


def upgrade() -> None:
    by_state = ["state", "created_at", "delivery"]
    gradual.create_index(op, "deliveries_listed_by_state", "deliveries", by_state, where=_LISTED)
    op.drop_index("deliveries_by_state", "deliveries")
    # A person's are few: `deliveries_of_recipient` and `deliveries_about` find them.
    op.drop_index("deliveries_unfinished_about", "deliveries")
    op.drop_index("deliveries_unfinished_of_recipient", "deliveries")


def downgrade() -> None:
    gradual.create_index(op, "deliveries_unfinished_of_recipient", "deliveries", ["recipient"], where=_UNFINISHED)
    about = f"about is not null and {_UNFINISHED}"
    gradual.create_index(op, "deliveries_unfinished_about", "deliveries", ["about"], where=about)
    gradual.create_index(op, "deliveries_by_state", "deliveries", ["state", "created_at", "delivery"])
    op.drop_index("deliveries_listed_by_state", "deliveries")
