"""Locks that outlast a transaction, each on a connection of its own: it ends with that, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.database import engine as engines

if TYPE_CHECKING:
    import psycopg

HSA = 0x6469720001
"""Who may ask HSA."""
SYNC = 0x6469720002
"""Who may run syncs with catalogues."""
HSA_REFRESH = 0x6469720004
"""Who may run those with HSA."""
HSA_DIRECT = 0x6469720003
"""Held, shared, by those who wait to ask HSA about one person or unit for somebody who waits."""

_CONNECT_SECONDS = 5


def connect(url: str, application_name: str) -> psycopg.Connection[Any]:
    """A connection outside the pool, each statement a transaction. Raises `psycopg.Error`."""
    import psycopg  # not before shared.database: see there

    return psycopg.connect(
        engines.driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
        application_name=application_name,
        # The server too must notice a holder that has vanished.
        options="-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2",
        keepalives_idle=5,
        keepalives_interval=5,
        keepalives_count=2,
    )
