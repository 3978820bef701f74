"""Looks through the logs of a whole run for anything about a person (R-SYS-3)."""

from __future__ import annotations

from pathlib import Path

from deploy.local.people import residents, staff


def private_words() -> set[str]:
    """Names, numbers and addresses of everyone that the tests know: staff and residents."""
    words: set[str | None] = set()
    for person in staff.everyone():
        words |= {person.hsa_id, person.identity_number, person.record.first("mail"), person.record.first("mobile")}
        words.add(f"{person.given_name} {person.surname}" if person.given_name else None)
    for resident in residents.everyone():
        words |= {resident.number, resident.number[2:], resident.mobile, resident.email}
        words.add(f"{resident.given_name} {resident.surname}" if resident.given_name else None)
        words.add(resident.address.street if resident.address else None)
    return {word for word in words if word and len(word) > 5}


def leaks(folder: Path) -> list[str]:
    """`log:line` of every line, of our own processes and of the servers, that tells something about a person."""
    words, found = private_words(), []
    for log in sorted(folder.glob("*.log*")):
        for number, line in enumerate(log.read_text(errors="replace").splitlines(), 1):
            if any(word in line for word in words):
                found.append(f"{log.name}:{number}")
    return found
