"""Access to clinics, listings, and who acts for whom."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, and says of a session whom it acts for."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    for table in ("blocked_guardians", "guardianships", "my_clinics", "listings", "approvals", "catchments"):
        op.drop_table(table)
    op.drop_table("clinic_places")
    op.execute("ALTER TABLE sessions DROP COLUMN acting_for, DROP COLUMN begun_from")


TABLES = """
ALTER TABLE sessions ADD COLUMN acting_for uuid, ADD COLUMN begun_from uuid;
CREATE INDEX sessions_begun_from ON sessions (begun_from) WHERE begun_from IS NOT NULL AND ended_at IS NULL;
CREATE INDEX sessions_acting_for ON sessions (acting_for) WHERE acting_for IS NOT NULL AND ended_at IS NULL;

CREATE TABLE catchments (
    clinic text PRIMARY KEY,
    counties text[] NOT NULL,
    municipalities text[] NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL
);
COMMENT ON TABLE catchments IS 'Clinics that limit themselves to some counties and municipalities (R-ID-22).';

CREATE TABLE approvals (
    approval uuid PRIMARY KEY,
    clinic text NOT NULL,
    number bytea NOT NULL,
    sealed bytea NOT NULL,
    case_types uuid[],
    last_day date,
    approved_at timestamptz NOT NULL,
    approved_by text NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text
);
CREATE UNIQUE INDEX approvals_one_of_each ON approvals (number, clinic) WHERE withdrawn_at IS NULL;
CREATE INDEX approvals_of_clinic ON approvals (clinic, approved_at, approval) WHERE withdrawn_at IS NULL;
COMMENT ON TABLE approvals IS 'Residents let in one by one, by number, since they need no account (R-ID-15, R-ID-22).';

CREATE TABLE listings (
    number bytea PRIMARY KEY,
    clinic text,
    as_of timestamptz NOT NULL,
    imported_at timestamptz NOT NULL
);
COMMENT ON TABLE listings IS 'Where residents are listed, by hash of number; of several imports the newest (R-ID-23).';

CREATE TABLE my_clinics (
    resident uuid NOT NULL REFERENCES residents,
    clinic text NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (resident, clinic)
);
COMMENT ON TABLE my_clinics IS
    'The clinics that residents keep in their own list, beside the one where they are listed.';

CREATE TABLE clinic_places (
    clinic text PRIMARY KEY,
    county_code text,
    asked_at timestamptz NOT NULL
);
COMMENT ON TABLE clinic_places IS 'In which county a clinic lies, as the directory said when it was last asked.';

CREATE TABLE guardianships (
    guardian uuid NOT NULL REFERENCES residents,
    child uuid NOT NULL REFERENCES residents,
    ends_on date NOT NULL,
    confirmed_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (guardian, child)
);
CREATE INDEX guardianships_child ON guardianships (child);
COMMENT ON TABLE guardianships IS 'Custody of children as the register last said. ends_on: the 13th birthday.';

CREATE TABLE blocked_guardians (
    block uuid PRIMARY KEY,
    clinic text NOT NULL,
    guardian bytea NOT NULL,
    child bytea NOT NULL,
    sealed bytea NOT NULL,
    blocked_at timestamptz NOT NULL,
    blocked_by text NOT NULL,
    lifted_at timestamptz,
    lifted_by text
);
CREATE UNIQUE INDEX blocked_guardians_one_of_each ON blocked_guardians (guardian, child, clinic)
    WHERE lifted_at IS NULL;
CREATE INDEX blocked_guardians_of_clinic ON blocked_guardians (clinic) WHERE lifted_at IS NULL;
COMMENT ON TABLE blocked_guardians IS
    'Where a guardian may not act for a child (R-ID-13), by hashes of their numbers.';
"""
