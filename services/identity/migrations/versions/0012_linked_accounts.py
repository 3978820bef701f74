"""Accounts that the register has told to be one person's, and the numbers of a person over all of them."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table and the view."""
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    op.execute("DROP VIEW numbers_of_person")
    op.drop_table("linked_accounts")


STATEMENTS = """
CREATE TABLE linked_accounts (
    resident uuid PRIMARY KEY REFERENCES residents,
    person uuid NOT NULL,
    linked_at timestamptz NOT NULL
);
CREATE INDEX linked_accounts_person ON linked_accounts (person);
COMMENT ON TABLE linked_accounts IS
    'Accounts by numbers that the register linked later: those of one person have the same value of person (R-ID-24).';

CREATE VIEW numbers_of_person AS
    SELECT resident, hash FROM identity_numbers
    UNION ALL
    SELECT mine.resident, numbers.hash
    FROM linked_accounts AS mine
    JOIN linked_accounts AS other ON other.person = mine.person AND other.resident <> mine.resident
    JOIN identity_numbers AS numbers ON numbers.resident = other.resident;
COMMENT ON VIEW numbers_of_person IS
    'All numbers of the person whose account it is: its own, and those of accounts that are linked with it (R-ID-24).'
"""
