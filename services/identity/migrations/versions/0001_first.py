"""The tables that identity begins with."""

from alembic import op

from shared.database import kernel_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the kernel's tables and identity's own."""
    kernel_tables.create(op)
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes all of it away."""
    for table in reversed(TABLES.split("CREATE TABLE ")[1:]):
        op.drop_table(table.split()[0])
    op.execute("DROP FUNCTION refuse_change()")
    kernel_tables.drop(op)


TABLES = """
CREATE TABLE logins (
    login uuid PRIMARY KEY,
    kind text NOT NULL,
    nonce text NOT NULL,
    begun_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX logins_begun_at ON logins (begun_at);
COMMENT ON TABLE logins IS 'Logins under way at an identity provider; each nonce works once.';

CREATE TABLE sessions (
    session uuid PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    started_at timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text,
    CONSTRAINT sessions_end_has_reason CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_subject_live ON sessions (subject) WHERE ended_at IS NULL;
CREATE INDEX sessions_ends_at ON sessions (ends_at);
COMMENT ON TABLE sessions IS 'Who is logged in. subject: resident id or staff HSA-id, as tokens say it.';

CREATE TABLE renewal_tokens (
    hash bytea PRIMARY KEY,
    session uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    issued_at timestamptz NOT NULL,
    spent_at timestamptz
);
CREATE INDEX renewal_tokens_session ON renewal_tokens (session);
COMMENT ON TABLE renewal_tokens IS
    'Hashes of renewal tokens. A spent one that comes back was stolen, and ends its session.';

CREATE TABLE accepted_terms (
    kind text NOT NULL,
    person text NOT NULL,
    version text NOT NULL,
    accepted_at timestamptz NOT NULL,
    PRIMARY KEY (kind, person, version)
);
COMMENT ON TABLE accepted_terms IS 'Who accepted which version of which terms, and when.';

CREATE TABLE staff (
    person text PRIMARY KEY,
    added_at timestamptz NOT NULL,
    last_login_at timestamptz
);
COMMENT ON TABLE staff IS
    'Staff who have logged in or been given a role. What HSA says of them stands in the directory.';

CREATE TABLE roles (
    clinic text NOT NULL,
    person text NOT NULL REFERENCES staff,
    role text NOT NULL,
    given_at timestamptz NOT NULL,
    given_by text NOT NULL,
    PRIMARY KEY (clinic, person, role)
);
CREATE INDEX roles_person ON roles (person);
COMMENT ON TABLE roles IS 'Who holds which role at which clinic.';

CREATE TABLE regional_admins (
    person text PRIMARY KEY REFERENCES staff,
    given_at timestamptz NOT NULL,
    given_by text NOT NULL
);
COMMENT ON TABLE regional_admins IS 'Who administers above the clinics.';

CREATE TABLE role_history (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    clinic text,
    person text NOT NULL,
    role text NOT NULL,
    change text NOT NULL CONSTRAINT role_history_change CHECK (change IN ('given', 'taken')),
    by text NOT NULL
);
CREATE INDEX role_history_clinic ON role_history (clinic, seq);
CREATE INDEX role_history_person ON role_history (person, seq);
COMMENT ON TABLE role_history IS
    'Every role that was given or taken, by whom. Nothing here is ever changed or removed.';
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME; END
$$;
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON role_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE rights_clock (
    id smallint PRIMARY KEY CONSTRAINT rights_clock_one_row CHECK (id = 1),
    number bigint NOT NULL
);
INSERT INTO rights_clock (id, number) VALUES (1, 0);
COMMENT ON TABLE rights_clock IS
    'The latest revocation number. Its row lock puts all changes of rights in one order, without gaps.';

CREATE TABLE residents (
    resident uuid PRIMARY KEY,
    particulars bytea NOT NULL,
    protected boolean NOT NULL,
    active boolean NOT NULL,
    locked_at timestamptz,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    looked_up_at timestamptz NOT NULL
);
COMMENT ON TABLE residents IS 'Accounts. particulars: sealed, what the register said at the latest look-up.';

CREATE TABLE identity_numbers (
    hash bytea PRIMARY KEY,
    resident uuid NOT NULL REFERENCES residents,
    sealed bytea NOT NULL,
    added_at timestamptz NOT NULL,
    current boolean NOT NULL
);
CREATE UNIQUE INDEX identity_numbers_current ON identity_numbers (resident) WHERE current;
COMMENT ON TABLE identity_numbers IS
    'Numbers of residents, sealed, found by a keyed hash; a resident can have had several (R-ID-24).';

CREATE TABLE contacts (
    kind text NOT NULL,
    person text NOT NULL,
    addresses bytea NOT NULL,
    notify_by text[] NOT NULL,
    tell_me_about text[] NOT NULL,
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, person)
);
COMMENT ON TABLE contacts IS 'How people want to be told. addresses: sealed.'
"""
