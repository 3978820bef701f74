"""What HSA answers, made from KiV's records: employee 4.0 and organization 5.0 (GetUnit 5.0, GetHealthCareUnit 2.0)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from lxml import etree

from deploy.local.common.soap import Fault, Field, Operation, Part, Value, text, truth
from deploy.local.people import cast
from deploy.local.people.feed import Record
from deploy.local.people.staff import Person
from shared.operations import clock

EMPLOYEE = "urn:riv:infrastructure:directory:employee:4"
EMPLOYEE_RESPONDER = "urn:riv:infrastructure:directory:employee:GetEmployeeIncludingProtectedPersonResponder:4"
ORGANIZATION = "urn:riv:infrastructure:directory:organization:5"
UNIT_RESPONDER = "urn:riv:infrastructure:directory:organization:GetUnitResponder:5"
CARE_UNIT_RESPONDER = "urn:riv:infrastructure:directory:organization:GetHealthCareUnitResponder:2"

_DN = re.compile(r"([OUDCNLoudcnl]{1,2}=[0-9\w \-.]*,?)*")
_PHONE = re.compile(r"[+0-9][0-9]{0,31}")
_HOURS = re.compile(r"([1-7])-([1-7])#(\d\d:\d\d)#(\d\d:\d\d)")
_RT90 = re.compile(r"X:\s*(\d+),\s*Y:\s*(\d+)")

BASIC = ("personHsaId", "givenName", "middleAndSurName", "nickName", "dn", "protectedPerson", "feignedPerson")
TITLE = (*BASIC, "description", "title", "healthCareProfessionalLicence", "paTitle", "specialityName", "specialityCode",
         "healthCareProfessionalLicenceSpeciality")  # fmt: skip
CONTACT = (*BASIC, "mail", "telephoneNumber", "mobileNumber", "postalAddress")
FULL = (*TITLE, *CONTACT)
PROFILES = {"BASIC": BASIC, "TITLE": TITLE, "CONTACT": CONTACT, "FULL": FULL, "EXTENDED1": (*FULL, "age", "gender")}


def is_dn(value: str) -> bool:
    """DNType of the contracts."""
    return len(value) <= 350 and bool(_DN.fullmatch(value))


class Catalogue:
    """Staff and units. What is put or removed at run time lives until the process ends."""

    def __init__(self, people: Iterable[Person], units: Iterable[Record]) -> None:
        self._people = list(people)
        self._units: dict[str, Record] = {}
        for unit in units:
            self._units.setdefault(unit.hsa_id, unit)  # the feed has some twice
        self._lock = threading.Lock()

    def people(self) -> list[Person]:
        """Everyone, the hidden too."""
        with self._lock:
            return list(self._people)

    def put_person(self, attributes: Mapping[str, Any], dn: str | None = None) -> None:
        """Adds a person object, or replaces the one with the same HSA-id. ValueError: no HSA-id."""
        record = Record(dn or "cn=Person,ou=Personal,o=VGR", attributes)
        if not record.hsa_id:
            raise ValueError("attributes must have hsaIdentity")
        with self._lock:
            self._people = [one for one in self._people if one.hsa_id != record.hsa_id] + [Person(record)]

    def remove_person(self, hsa_id: str) -> None:
        """Takes a person away."""
        with self._lock:
            self._people = [one for one in self._people if one.hsa_id != hsa_id.upper()]

    def unit(self, hsa_id: str) -> Record | None:
        """The unit or function. Ids that end in X are closed or placeholders."""
        wanted = hsa_id.upper()
        return None if wanted.endswith("X") else self._units.get(wanted)

    def put_unit(self, attributes: Mapping[str, Any], dn: str | None = None) -> None:
        """Adds a unit, or replaces the one with the same HSA-id. ValueError: no HSA-id."""
        record = Record(dn or "ou=Enhet,ou=Org,o=VGR", attributes)
        if not record.hsa_id:
            raise ValueError("attributes must have hsaIdentity")
        self._units = self._units | {record.hsa_id: record}

    def remove_unit(self, hsa_id: str) -> None:
        """Takes a unit away."""
        self._units = {key: unit for key, unit in self._units.items() if key != hsa_id.upper()}

    def members_of(self, hsa_id: str) -> Record | None:
        """The health care unit that names this one as its member."""
        for unit in self._units.values():
            if hsa_id.upper() in (member.upper() for member in unit.all("hsaHealthCareUnitMember")):
                return unit
        return None


def operations(catalogue: Catalogue) -> list[Operation]:
    """The three contracts."""
    feigned = Field("includeFeignedObject", check=truth)
    base = Field("searchBase", check=is_dn)
    return [
        Operation(
            "GetEmployeeIncludingProtectedPerson",
            EMPLOYEE_RESPONDER,
            (Field("personHsaId", choice=True), Field("personalIdentityNumber", choice=True), base, feigned,
             Field("profile")),
            lambda asked, nothing: _employees(catalogue, asked, nothing),
            lambda asked: [text(asked, "personHsaId") or text(asked, "personalIdentityNumber") or ""],
        ),
        Operation(
            "GetUnit",
            UNIT_RESPONDER,
            (Field("unitHsaId", least=1), base, feigned, Field("profile", most=None)),
            lambda asked, nothing: _unit(catalogue, asked, nothing),
            lambda asked: [text(asked, "unitHsaId") or ""],
        ),
        Operation(
            "GetHealthCareUnit",
            CARE_UNIT_RESPONDER,
            (Field("healthCareUnitMemberHsaId", least=1), base, feigned),
            lambda asked, nothing: _care_unit(catalogue, asked, nothing),
            lambda asked: [text(asked, "healthCareUnitMemberHsaId") or ""],
        ),
    ]  # fmt: skip


def _employees(catalogue: Catalogue, asked: etree._Element, nothing: bool) -> Part:
    profile = (text(asked, "profile") or "FULL").upper()
    if profile not in PROFILES:
        raise Fault("Client", "unknown profile")
    hsa_id, number = text(asked, "personHsaId"), text(asked, "personalIdentityNumber")
    feigned = text(asked, "includeFeignedObject") in ("true", "1")
    base = (text(asked, "searchBase") or "c=SE").casefold()
    now = clock.now()
    found = [
        _person(catalogue, one, profile)
        for one in catalogue.people()
        if (one.hsa_id == hsa_id.upper() if hsa_id is not None else one.identity_number == number)
        and one.shown(now)
        and (feigned or not one.feigned)
        and _dn(one.record).casefold().endswith(base)
    ]
    # who lacks something mandatory, or has something malformed, is silently left out
    return Part(EMPLOYEE_RESPONDER, {"personInformation": [] if nothing else [one for one in found if one is not None]})


def _dn(record: Record) -> str:
    return f"{record.dn},c=SE"


def _person(catalogue: Catalogue, person: Person, profile: str) -> Part | None:
    record = person.record
    mobiles = [_phone(value) for value in record.all("mobile")]
    phones = [_phone(value) for value in record.all("telephoneNumber")]
    if not person.surname or not is_dn(_dn(record)) or not all(_PHONE.fullmatch(one) for one in (*mobiles, *phones)):
        return None
    licences, specialities = record.all("hsaTitle"), record.all("hsaSpecialityName")
    codes = record.all("hsaSpecialityCode")
    unit = catalogue.unit(person.unit or "")
    every: dict[str, Value] = {
        "personHsaId": person.hsa_id,
        "givenName": person.given_name,
        "middleAndSurName": person.surname,
        "nickName": record.first("hsaNickName"),
        "mail": record.first("mail"),
        "telephoneNumber": phones,
        "mobileNumber": mobiles,
        "postalAddress": Part(EMPLOYEE, {"addressLine": _lines(unit.first("hsaPostalAddress")) if unit else []}),
        "description": record.first("description"),
        "title": person.title,
        "healthCareProfessionalLicence": licences,
        "paTitle": [
            Part(EMPLOYEE, {"paTitleName": name, "paTitleCode": code})
            for name, code in zip(record.all("paTitleName"), record.all("paTitleCode"), strict=False)
        ],
        "specialityName": specialities,
        "specialityCode": codes,
        "dn": _dn(record),
        "protectedPerson": True if person.protected else None,
        "feignedPerson": True if person.feigned else None,
        "healthCareProfessionalLicenceSpeciality": [
            Part(
                EMPLOYEE,
                {"healthCareProfessionalLicence": licence, "specialityCode": code, "specialityName": name},
            )
            for licence in licences[:1]
            for code, name in zip(codes, specialities, strict=False)
        ],
        "age": _age(person.identity_number),
        "gender": _gender(person.identity_number),
    }
    if person.protected:
        del every["postalAddress"]
    return Part(EMPLOYEE, {name: value for name, value in every.items() if name in PROFILES[profile]})


def _phone(value: str) -> str:
    """Digits alone, in international form; what is no number stays as it is and fails the syntax."""
    bare = re.sub(r"[ \-()]", "", value)
    return "+46" + bare[1:] if re.fullmatch(r"0[1-9]\d+", bare) else bare


def _lines(address: str | None) -> list[str]:
    return [line.strip() for line in (address or "").split("$") if line.strip()]


def _born(number: str | None) -> date | None:
    try:
        return date(int(number[:4]), int(number[4:6]), int(number[6:8]) % 60) if number else None
    except ValueError:
        return None


def _age(number: str | None) -> str | None:
    born, today = _born(number), clock.today()
    return str(today.year - born.year - ((today.month, today.day) < (born.month, born.day))) if born else None


def _gender(number: str | None) -> str:
    if not number or not number[-2].isdigit():
        return "0"
    return "1" if int(number[-2]) % 2 else "2"


def _unit(catalogue: Catalogue, asked: etree._Element, nothing: bool) -> Part:
    record = catalogue.unit(text(asked, "unitHsaId") or "")
    if record is None or nothing:
        return Part(UNIT_RESPONDER, {})
    name = _name(record)
    rt90, street = _RT90.search(record.first("hsaGeographicalCoordinates") or ""), record.first("hsaStreetAddress")
    postal = _lines(record.first("hsaPostalAddress"))
    codes, names = record.all("hsaBusinessClassificationCode"), record.all("hsaBusinessClassificationCode_TEXT")
    children: dict[str, Value] = {
        "businessClassification": [
            Part(
                UNIT_RESPONDER,
                {
                    "businessClassificationName": names[at] if at < len(names) else None,
                    "businessClassificationCode": code,
                },
            )
            for at, code in enumerate(codes)
        ],
        "businessType": record.all("hsaBusinessType"),
        "careType": record.all("vgrCareType"),
        "countyName": record.first("hsaCountyCode_TEXT"),
        "countyCode": record.first("hsaCountyCode"),
        "description": record.first("description"),
        "dropInHour": _hours(record, "hsaDropInHours"),
        "mail": record.first("mail"),
        "facsimileTelephoneNumber": _phones(record, "facsimileTelephoneNumber"),
        "geographicalCoordinatesRt90": Part(
            UNIT_RESPONDER,
            {"xCoordinate": rt90[1] if rt90 else None, "yCoordinate": rt90[2] if rt90 else None},
        ),
        "destinationIndicator": record.all("hsaDestinationIndicator"),
        "unitHsaId": record.hsa_id,
        "labeledUri": record.first("labeledUri"),
        "location": record.first("l"),
        "management": record.all("hsaManagementCode"),
        "municipalityName": record.first("hsaMunicipalityCode_TEXT"),
        "municipalityCode": record.first("hsaMunicipalityCode"),
        "unitName": name,
        "postalAddress": Part(ORGANIZATION, {"addressLine": postal}),
        "postalCode": record.first("postalCode"),
        "publicName": name,
        "route": record.first("hsaRoute"),
        "street": " ".join(_lines(street)) or None,
        "surgeryHour": _hours(record, "hsaSurgeryHours"),
        "switchboardNumber": next(iter(_phones(record, "hsaSedfSwitchboardTelephoneNo")), None),
        "telephoneHour": _hours(record, "hsaTelephoneTime"),
        "telephoneNumber": _phones(record, "hsaPublicTelephoneNumber"),
        "unitTemporaryInformation": _notice(record),
        "visitingRules": record.first("hsaVisitingRules"),
        "unitStartDate": _instant(record, "hsaStartDate"),
        "unitEndDate": _instant(record, "hsaEndDate"),
    }
    return Part(UNIT_RESPONDER, {"unit": Part(UNIT_RESPONDER, children)})


def _name(record: Record) -> str:
    """A function's name stands in cn, a unit's in ou."""
    return record.first("cn") or record.first("ou") or record.hsa_id


def _phones(record: Record, key: str) -> list[str]:
    return [phone for phone in map(_phone, record.all(key)) if _PHONE.fullmatch(phone)]


def _hours(record: Record, key: str) -> list[Part]:
    found = [_HOURS.fullmatch(value) for value in record.all(key)]
    return [
        Part(
            ORGANIZATION,
            {"fromDay": one[1], "fromTime": f"{one[3]}:00", "toDay": one[2], "toTime": f"{one[4]}:00"},
        )
        for one in found
        if one
    ]


def _notice(record: Record) -> Part | None:
    found = re.fullmatch(r"(\d{8})-(\d{8}) (.+)", record.first("vgrTempInfo") or "", re.DOTALL)
    if not found:
        return None
    return Part(ORGANIZATION, {"fromDate": found[1], "toDate": found[2], "temporaryInformation": found[3]})


def _instant(record: Record, key: str) -> str | None:
    try:
        return datetime.strptime(record.first(key) or "", "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return None


def _care_unit(catalogue: Catalogue, asked: etree._Element, nothing: bool) -> Part:
    member = catalogue.unit(text(asked, "healthCareUnitMemberHsaId") or "")
    if member is None or nothing:
        return Part(CARE_UNIT_RESPONDER, {})
    unit = catalogue.members_of(member.hsa_id) or member
    ours = unit.first("hsaManagementCode") == "1"
    provider_id = unit.first("hsaResponsibleHealthCareProvider") or (cast.CARE_PROVIDER if ours else None)
    if provider_id is None:
        return Part(CARE_UNIT_RESPONDER, {})
    provider = catalogue.unit(provider_id)
    name = _name(provider) if provider else cast.CARE_PROVIDER_NAME
    organisation = re.sub(r"^SE(?:16)?(\d{6})(\d{4})-.*$", r"\1-\2", provider_id.upper())
    children: dict[str, Value] = {
        "unitIsHealthCareUnit": member is unit,
        "healthCareUnitMemberHsaId": None if member is unit else member.hsa_id,
        "healthCareUnitMemberName": None if member is unit else _name(member),
        "healthCareUnitMemberPublicName": None if member is unit else _name(member),
        "healthCareUnitMemberStartDate": None if member is unit else _instant(member, "hsaStartDate"),
        "healthCareUnitMemberEndDate": None if member is unit else _instant(member, "hsaEndDate"),
        "healthCareUnitHsaId": unit.hsa_id,
        "healthCareUnitName": _name(unit),
        "healthCareUnitPublicName": _name(unit),
        "healthCareUnitStartDate": _instant(unit, "hsaStartDate"),
        "healthCareUnitEndDate": _instant(unit, "hsaEndDate"),
        "healthCareProviderHsaId": provider_id.upper(),
        "healthCareProviderName": name,
        "healthCareProviderPublicName": name,
        "healthCareProviderOrgNo": organisation,
    }
    return Part(CARE_UNIT_RESPONDER, {"healthCareUnit": Part(CARE_UNIT_RESPONDER, children)})
