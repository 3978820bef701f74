"""What has to be done once identity's database has been put back from a copy, before identity runs again.

    python -m services.identity.restored

Its revocation number has gone back too, and the copies of the rights in other services know changes up to a higher one:
they would take the next changes for old ones, and a right that is taken would go on working there (R-ID-10). So the
number leaps beyond any that can have been given out. Every copy then lacks changes, so that each call asks identity
until the copy has been compared (`shared.security.rights_comparing`). Sessions all end, for nobody knows any more which
of them had ended, nor which renewal tokens were spent (R-ID-21); no event is needed for that, since identity is asked
for longer than an access token lives. The keys that tokens are signed with all go, for one that was withdrawn since may
have been stolen. And what the register said counts as old: whoever has become protected, has died or has lost custody
since is looked up in the next runs of `refresh_residents` and `confirm_custody` (R-ID-11, R-ID-13, R-ID-14, R-ID-17).

Harmless when repeated or when nothing was restored: everyone logs in again, and is looked up again.
"""

from __future__ import annotations

import sys

import psycopg

from shared.operations.settings import EXIT_CONFIGURATION, DatabaseSettings, SettingsError, read

LEAP = 2**40
"""More changes than there will be between two leaps, and so few that the column has room for millions of leaps."""

_NUMBER = "UPDATE rights_clock SET number = number + %s RETURNING number - %s, number"
_SESSIONS = "UPDATE sessions SET ended_at = now(), end_reason = 'restored' WHERE ended_at IS NULL"
_KEYS = "DELETE FROM signing_keys"
_LOOK_UP_AGAIN = "UPDATE residents SET looked_up_at = 'epoch' WHERE looked_up_at > 'epoch'"
_CONFIRM_AGAIN = "UPDATE guardianships SET confirmed_at = 'epoch' WHERE confirmed_at > 'epoch' AND ended_at IS NULL"


def begin_anew(url: str) -> tuple[int, int, int]:
    """The number that the copy had, the number now, and how many sessions have ended."""
    with psycopg.connect(url) as connection:
        # The sessions first: whoever ends one takes its lock before that of the number.
        ended = connection.execute(_SESSIONS).rowcount
        row = connection.execute(_NUMBER, (LEAP, LEAP)).fetchone()
        connection.execute(_KEYS)
    with psycopg.connect(url) as connection:
        connection.execute(_LOOK_UP_AGAIN)
        connection.execute(_CONFIRM_AGAIN)
    assert row is not None
    return row[0], row[1], ended


def main() -> int:
    """The command line. Exit status 0: done; 1: the database refused or does not answer; 78: settings are wrong."""
    try:
        url = read(DatabaseSettings).database_url
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        before, now, ended = begin_anew(url)
    except psycopg.Error as error:
        print(f"the database refused, or does not answer: SQLSTATE {error.sqlstate}", file=sys.stderr)
        return 1
    print(f"the revocation number was {before} and is {now}; {ended} sessions have ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
