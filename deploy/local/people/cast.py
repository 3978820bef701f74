"""The cast of the demo and the tests by part; data/README.md tells who they are."""

from __future__ import annotations

from deploy.local.people import staff
from deploy.local.people.residents import named


def _person(number: int) -> str:
    return f"SE2321000131-P0000090000{number:02}"


def _unit(number: int) -> str:
    return f"SE2321000131-E0000090001{number:02}"


CARE_PROVIDER = "SE2321000131-E000009000001"
CARE_PROVIDER_NAME = "Västra Götalandsregionen"

SJOPORTEN = _unit(1)
KVARNBACKEN = _unit(2)
VISKAN = _unit(12)
BILLINGEN = _unit(17)
ENDED_CLINIC = _unit(21)
PRIVATE_CLINIC = "SE5599999994-1001"
FUNCTION_CLINIC = "SE2321000131-F000009000101"

REGIONAL_ADMIN = _person(1)
OPERATIONS_MANAGER = _person(2)
LOCAL_ADMIN = _person(3)
RECEIVER = _person(4)
SECOND_RECEIVER = _person(5)
HANDLER = _person(6)
SECOND_HANDLER = _person(7)
OUTSIDER = _person(8)
OPERATIONS_ASSISTANT = _person(9)
RIGHTS_ADMIN = _person(10)
LOG_REVIEWER = _person(11)
PROTECTED_STAFF = _person(12)
ENDED_STAFF = _person(13)
HIDDEN_STAFF = _person(15)
TWO_EMPLOYMENTS = (_person(17), _person(18))
ONLY_IN_HSA = _person(41)
UNKNOWN_STAFF = _person(99)

RESIDENT = named("astrid").number
RESIDENT_MOBILE = named("astrid").mobile
SECOND_RESIDENT = named("nils").number
GUARDIAN = named("maria").number
CHILD_OF_12 = named("elsa").number
CHILD_OF_13 = named("hugo").number
PROTECTED_RESIDENT = named("petra").number
PROTECTED_RECORD = named("omar").number
DECEASED = named("gunnar").number
EMIGRATED = named("linnea").number
CHANGED_NUMBER = (named("kim_before").number, named("kim").number)
UNKNOWN_TO_REGISTER = "199901012386"


def mail_of(hsa_id: str) -> str:
    """A person's mail address in HSA. KeyError: no such person, or no address."""
    person = staff.find(hsa_id)
    address = person.record.first("mail") if person else None
    if address is None:
        raise KeyError(hsa_id)
    return address
