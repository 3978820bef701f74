"""Guardians who are told for a child, reports and pace of providers, who has worked at a clinic, reminders."""

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("about", sa.Text(), comment="the child, where a guardian is told"),
        sa.Column("contact_version", sa.Integer(), comment="of what the person had set then"),
        sa.Column("provider", sa.Text(), comment="to whom it was handed last"),
        sa.Column("report", sa.Text(), comment="what the provider told later"),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("deliveries", column, if_not_exists=True)
    op.add_column(
        "clinic_settings",
        sa.Column("reminded_until", sa.DateTime(timezone=True), comment="cases silent since before this were told of"),
        if_not_exists=True,
    )
    op.add_column("clinic_addresses", sa.Column("bounced_at", sa.DateTime(timezone=True)), if_not_exists=True)
    op.create_table(
        "provider_pace",
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, comment="by the database's clock"),
        if_not_exists=True,
    )
    op.create_table(
        "clinic_staff",
        sa.Column("clinic", sa.Text(), primary_key=True),
        sa.Column("person", sa.Text(), primary_key=True),
        comment="Everyone who has held a role at a clinic, now or before (R-ID-10).",
        if_not_exists=True,
    )
    # What the copy of the rights holds already; from now on each change adds to it.
    op.execute(
        "INSERT INTO clinic_staff (clinic, person)"
        " SELECT DISTINCT held ->> 'clinic', subject FROM rights_subjects, jsonb_array_elements(roles) AS held"
        " ON CONFLICT DO NOTHING"
    )
    unfinished_about = "about is not null and state in ('waiting', 'claimed')"
    gradual.create_index(op, "deliveries_unfinished_about", "deliveries", ["about"], where=unfinished_about)
    gradual.create_index(op, "deliveries_in_hands", "deliveries", ["claim"], where="state in ('claimed', 'sending')")
    gradual.create_index(op, "deliveries_ended", "deliveries", ["ended_at"], where="ended_at is not null")
    op.drop_index("deliveries_of_claim", "deliveries")


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
