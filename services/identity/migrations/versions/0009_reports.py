"""Subject access reports."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their tables."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    for table in ("report_pages", "report_parts", "reports"):
        op.drop_table(table)


TABLES = """
CREATE TABLE reports (
    report uuid PRIMARY KEY,
    resident uuid NOT NULL REFERENCES residents,
    requested_at timestamptz NOT NULL,
    care_providers_known boolean NOT NULL DEFAULT false
);
CREATE INDEX reports_of_resident ON reports (resident);
CREATE INDEX reports_requested_at ON reports (requested_at);
COMMENT ON TABLE reports IS 'Subject access reports that residents have asked for; kept for 30 days (R-ID-19).';

CREATE TABLE report_parts (
    part uuid PRIMARY KEY,
    report uuid NOT NULL REFERENCES reports ON DELETE CASCADE,
    care_provider text NOT NULL,
    state text NOT NULL,
    missing text[] NOT NULL,
    released_at timestamptz,
    released_by text,
    gathered_at timestamptz,
    CONSTRAINT report_parts_once UNIQUE (report, care_provider)
);
CREATE INDEX report_parts_to_gather ON report_parts (released_at) WHERE state IN ('gathering', 'incomplete');
CREATE INDEX report_parts_to_release ON report_parts (care_provider) WHERE state = 'waiting_for_release';
COMMENT ON TABLE report_parts IS
    'What one care provider controls of a report; an empty care provider: what the e-services hold themselves.';

CREATE TABLE report_pages (
    part uuid NOT NULL REFERENCES report_parts ON DELETE CASCADE,
    position integer NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (part, position)
);
COMMENT ON TABLE report_pages IS 'What was gathered for a part, sealed.'
"""
