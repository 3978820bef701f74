"""HSA's direct questions: employee 4 (GetEmployeeIncludingProtectedPerson) and organization 5 (GetUnit,
GetHealthCareUnit), SOAP over mutual TLS. Answers become the same records as KiV's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from services.directory import parsing, records
from services.directory.parsing import Unparsed
from services.directory.records import Person, Raw
from services.directory.sources.soap import Endpoint
from shared.operations.clock import SWEDEN

EMPLOYEE = "GetEmployeeIncludingProtectedPerson"
UNIT = "GetUnit"
CARE_UNIT = "GetHealthCareUnit"
RESPONDERS = {
    EMPLOYEE: "urn:riv:infrastructure:directory:employee:GetEmployeeIncludingProtectedPersonResponder:4",
    UNIT: "urn:riv:infrastructure:directory:organization:GetUnitResponder:5",
    CARE_UNIT: "urn:riv:infrastructure:directory:organization:GetHealthCareUnitResponder:2",
}
_EMPLOYEE_CORE = "urn:riv:infrastructure:directory:employee:4"

# HSA's field names to the directory's attribute names, which the records are made from.
_PERSON = {
    "personHsaId": "hsaIdentity",
    "givenName": "givenName",
    "middleAndSurName": "sn",
    "title": "title",
    "mail": "mail",
    "mobileNumber": "mobile",
    "protectedPerson": "protectedPerson",
}
_UNIT = {
    "unitHsaId": "hsaIdentity",
    "publicName": "ou",
    "location": "l",
    "countyCode": "hsaCountyCode",
    "municipalityCode": "hsaMunicipalityCode",
    "businessType": "hsaBusinessType",
    "careType": "vgrCareType",
    "destinationIndicator": "hsaDestinationIndicator",
    "management": "hsaManagementCode",
    "description": "description",
    "mail": "mail",
    "labeledUri": "labeledURI",
    "route": "hsaRoute",
    "street": "hsaStreetAddress",
    "postalCode": "postalCode",
    "telephoneNumber": "hsaPublicTelephoneNumber",
    "switchboardNumber": "hsaSedfSwitchboardTelephoneNo",
    "textTelephoneNumber": "hsaTextPhoneNumber",
    "facsimileTelephoneNumber": "facsimileTelephoneNumber",
    "referralRules": "vgrRefInfo",
    "visitingRules": "hsaVisitingRules",
}
_UNIT_HOURS = {
    "surgeryHour": "hsaSurgeryHours",
    "telephoneHour": "hsaTelephoneTime",
    "dropInHour": "hsaDropInHours",
    "visitingHour": "hsaVisitingHours",
}


@dataclass(frozen=True)
class Hsa:
    """The catalogue's contracts; the two may have different addresses. One call at a time: `hsa_queue`."""

    employee: Endpoint
    organization: Endpoint

    @property
    def timeout_seconds(self) -> float:
        """The longest that an answer may take."""
        return max(self.employee.timeout_seconds, self.organization.timeout_seconds)

    def persons(self, hsa_id: str) -> list[Person]:
        """Every person object with this HSA-id; none: missing or hidden. Raises `SourceError` if HSA is down."""
        response = self.employee.ask(EMPLOYEE, RESPONDERS[EMPLOYEE], {"personHsaId": hsa_id})
        return [one for one in persons_in(response) if one.hsa_id == hsa_id]

    def unit(self, hsa_id: str) -> Raw | None:
        """The unit's record; None: not in HSA, or hidden, or something mandatory is missing. Raises `SourceError`."""
        response = self.organization.ask(UNIT, RESPONDERS[UNIT], {"unitHsaId": hsa_id})
        found = unit_in(response)
        return found if found is not None and _same(found, hsa_id) else None

    def care_provider(self, unit: str) -> str | None:
        """HSA-id of the care provider of a unit, as a health care unit or as a member of one (R-ID-25). Raises
        `SourceError`."""
        asked = {"healthCareUnitMemberHsaId": unit}
        return care_provider_in(self.organization.ask(CARE_UNIT, RESPONDERS[CARE_UNIT], asked))


def persons_in(response: Any) -> list[Person]:
    """The persons in an answer."""
    people = (_person(element) for element in response.findall(f"{{{RESPONDERS[EMPLOYEE]}}}personInformation"))
    return [person for person in people if person is not None]


def _person(element: Any) -> Person | None:
    attributes: dict[str, list[str]] = {}
    for name, child in _children(element, _EMPLOYEE_CORE):
        if name in _PERSON and child.text:
            attributes.setdefault(_PERSON[name], []).append(child.text)
        elif name == "personEndDate" and child.text:
            attributes["hsaEndDate"] = [stamp(child.text)]
    person = records.person(Raw("", attributes))
    return None if isinstance(person, Unparsed) else person


def unit_in(response: Any) -> Raw | None:
    """The unit in an answer, if there is one."""
    responder = RESPONDERS[UNIT]
    element = response.find(f"{{{responder}}}unit")
    if element is None:
        return None
    attributes: dict[str, list[str]] = {}
    for name, child in _children(element, responder):
        if name in _UNIT and child.text:
            attributes.setdefault(_UNIT[name], []).append(child.text)
        elif name in _UNIT_HOURS:
            attributes.setdefault(_UNIT_HOURS[name], []).append(_hours(_inside(child)))
        elif name in ("unitStartDate", "unitEndDate") and child.text:
            attributes["hsaStartDate" if name == "unitStartDate" else "hsaEndDate"] = [stamp(child.text)]
        elif name == "geographicalCoordinatesRt90":
            point = _inside(child)
            attributes["hsaGeographicalCoordinates"] = [f"X: {point.get('xCoordinate')}, Y: {point.get('yCoordinate')}"]
        elif name == "postalAddress":
            lines = (one.text or "" for one in child if isinstance(one.tag, str))
            attributes["hsaPostalAddress"] = ["$".join(lines)]
        elif name == "unitTemporaryInformation":
            told = _inside(child)
            text = f"{told.get('fromDate')}-{told.get('toDate')} {told.get('temporaryInformation', '')}"
            attributes["vgrTempInfo"] = [text]
        elif name == "businessClassification":
            code = _inside(child).get("businessClassificationCode", "")
            attributes.setdefault("hsaBusinessClassificationCode", []).append(code)
    return Raw(f"ou={attributes.get('ou', [''])[0]}", attributes)


def care_provider_in(response: Any) -> str | None:
    """The care provider in an answer; none for a unit that has none, or only one that is archived."""
    found = response.find(f"{{{RESPONDERS[CARE_UNIT]}}}healthCareUnit")
    if found is None:
        return None
    told = _inside(found)
    provider = parsing.hsa_id(told.get("healthCareProviderHsaId", ""))
    archived = told.get("archivedHealthCareProvider", "").strip() in ("true", "1")
    return None if archived or isinstance(provider, Unparsed) else provider


def _children(element: Any, namespace: str) -> Iterator[tuple[str, Any]]:
    for child in element:
        if isinstance(child.tag, str):
            name = etree.QName(child)
            if name.namespace == namespace:
                yield name.localname, child


def _inside(element: Any) -> dict[str, str]:
    return {etree.QName(one).localname: one.text or "" for one in element if isinstance(one.tag, str)}


def _hours(span: dict[str, str]) -> str:
    """A span of days and times in KiV's form; before it the dates between which it holds, if it has any."""
    begins, ends = (span.get(name, "").strip().replace("-", "") for name in ("fromDate", "toDate"))
    dates = f"{begins}-{ends} " if begins or ends else ""
    comment = f"#{span['comment']}" if span.get("comment") else ""
    days = f"{span.get('fromDay', '')}-{span.get('toDay', '')}"
    return f"{dates}{days}#{span.get('fromTime', '')[:5]}#{span.get('toTime', '')[:5]}{comment}"


def _same(raw: Raw, hsa_id: str) -> bool:
    given = raw.attributes.get("hsaIdentity") or [""]
    return parsing.hsa_id(given[0]) == hsa_id


def stamp(xml_time: str) -> str:
    """An xs:dateTime in the directory's own form; as it came if it is none."""
    try:
        moment = datetime.fromisoformat(xml_time.strip())
    except ValueError:
        return xml_time
    moment = moment if moment.tzinfo else moment.replace(tzinfo=SWEDEN)
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
