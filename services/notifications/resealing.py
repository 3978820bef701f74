"""After a change of keys all addresses of clinics are sealed anew with the current one, while the system is used
(R-SYS-2).

A job looks through them once a day, a little at a time, and keeps no note of where it is. What a process that was
started with the older ring seals meanwhile, the next day's run finds.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from services.notifications.clinic_settings import open_address, seal_address
from services.notifications.tables import clinic_addresses
from shared.database.transaction import Transaction
from shared.operations.logs import log

AT_ONCE = 500
_FIRST = UUID(int=0)


def reseal_all(run: Any) -> int:
    """Looks through all addresses, or until the process stops; how many were sealed anew.

    What can't be opened is left as it is, and told in the log: its key can be put back into the ring.
    """
    total, after = 0, _FIRST
    while not run.stopping.is_set():
        with run.transaction() as tx:
            found = _older(tx, after)
            for address_id, sealed in found:
                total += _reseal(tx, address_id, sealed)
        if not found:
            break
        after = found[-1][0]
    log.info("addresses_resealed", count=total)
    return total


def _older(tx: Transaction, after: UUID) -> list[tuple[UUID, bytes]]:
    """The next that are sealed with another key than the current one, held until the transaction ends."""
    key, sealed = clinic_addresses.c.address_id, clinic_addresses.c.address
    older = func.substring(sealed, 1, len(tx.sealer.prefix)) != tx.sealer.prefix
    query = select(key, sealed).where(key > after, older).order_by(key).limit(AT_ONCE).with_for_update()
    return [(row.address_id, bytes(row.address)) for row in tx.execute(query)]


def _reseal(tx: Transaction, address_id: UUID, sealed: bytes) -> bool:
    address = open_address(tx, address_id, sealed)
    if address is None:
        return False
    anew = seal_address(tx, address_id, address)
    tx.execute(update(clinic_addresses).where(clinic_addresses.c.address_id == address_id).values(address=anew))
    return True
