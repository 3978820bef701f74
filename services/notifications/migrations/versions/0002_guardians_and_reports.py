"""Guardians who are told for a child, reports and pace of providers, who has worked at a clinic, reminders."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_HELD = sa.text("state in ('claimed', 'sending')")


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("about", sa.Text(), comment="the child, where a guardian is told"))
    op.add_column("deliveries", sa.Column("contact_version", sa.Integer(), comment="of what the person had set then"))
    op.add_column("deliveries", sa.Column("provider", sa.Text(), comment="to whom it was handed last"))
    op.add_column("deliveries", sa.Column("report", sa.Text(), comment="what the provider told later"))
    op.add_column("deliveries", sa.Column("reported_at", sa.DateTime(timezone=True)))
    op.create_index(
        "deliveries_unfinished_about",
        "deliveries",
        ["about"],
        postgresql_where=sa.text("about is not null and state in ('waiting', 'claimed')"),
    )
    op.create_index("deliveries_in_hands", "deliveries", ["claim"], postgresql_where=_HELD)
    op.drop_index("deliveries_of_claim", "deliveries")
    op.create_index("deliveries_ended", "deliveries", ["ended_at"], postgresql_where=sa.text("ended_at is not null"))

    op.add_column(
        "clinic_settings",
        sa.Column("reminded_until", sa.DateTime(timezone=True), comment="cases silent since before this were told of"),
    )
    op.add_column("clinic_addresses", sa.Column("bounced_at", sa.DateTime(timezone=True)))
    op.create_table(
        "provider_pace",
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, comment="by the database's clock"),
    )
    op.create_table(
        "clinic_staff",
        sa.Column("clinic", sa.Text(), primary_key=True),
        sa.Column("person", sa.Text(), primary_key=True),
        comment="Everyone who has held a role at a clinic, now or before (R-ID-10).",
    )
    # What the copy of the rights holds already; from now on each change adds to it.
    op.execute(
        "INSERT INTO clinic_staff (clinic, person)"
        " SELECT DISTINCT held ->> 'clinic', subject FROM rights_subjects, jsonb_array_elements(roles) AS held"
    )


def downgrade() -> None:
    op.drop_table("clinic_staff")
    op.drop_table("provider_pace")
    op.drop_column("clinic_addresses", "bounced_at")
    op.drop_column("clinic_settings", "reminded_until")
    op.drop_index("deliveries_ended", "deliveries")
    op.create_index("deliveries_of_claim", "deliveries", ["claim"], postgresql_where=sa.text("state = 'claimed'"))
    op.drop_index("deliveries_in_hands", "deliveries")
    op.drop_index("deliveries_unfinished_about", "deliveries")
    for column in ("reported_at", "report", "provider", "contact_version", "about"):
        op.drop_column("deliveries", column)
