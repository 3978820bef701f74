"""After a change of keys every file's name is sealed anew with the current one, while the system is used (R-SYS-2).

A job looks through all names once a day, a little at a time, and keeps no note of where it is: what is sealed anew is
not looked for again. A process that was started with the older ring may seal with an older key for as long as it lives;
what it leaves, the next day's run finds.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal, select, update

from services.attachments.files import open_name, seal_name
from services.attachments.tables import attachments
from shared.database.transaction import Transaction
from shared.operations.logs import log
from shared.security.sealing import KeyMissing, SealBroken

AT_ONCE = 500
_GIVE_WAY_SECONDS = 0.01


def reseal_all(run: Any) -> int:
    """Looks through all names, or until the process stops; how many were sealed anew."""
    total, after, more = 0, None, True
    while more and not run.stopping.is_set():
        with run.transaction() as tx:
            done, after = reseal_some(tx, after)
        total, more = total + done, after is not None
        time.sleep(_GIVE_WAY_SECONDS)
    log.info("names_resealed", count=total)
    return total


def reseal_some(tx: Transaction, after: UUID | None) -> tuple[int, UUID | None]:
    """Looks through the next `AT_ONCE` names; how many it sealed anew, and where the next begin, None at the end."""
    key = attachments.c.attachment
    beyond = key > after if after is not None else literal(True)
    last = tx.execute(select(key).where(beyond).order_by(key).offset(AT_ONCE - 1).limit(1)).scalar()
    upto = key <= last if last is not None else literal(True)
    older = func.substring(attachments.c.name, 1, len(tx.sealer.prefix)) != tx.sealer.prefix
    count = 0
    for row in tx.execute(select(key, attachments.c.name).where(beyond, upto, older).order_by(key)).all():
        try:
            name = open_name(tx, row)
        except SealBroken as error:
            missing = error.key if isinstance(error, KeyMissing) else None
            log.error("sealed_value_lost", table="attachments.name", key_id=missing)
            continue
        tx.execute(update(attachments).where(key == row.attachment).values(name=seal_name(tx, row.attachment, name)))
        count += 1
    return count, last
