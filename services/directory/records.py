"""A source's records, an attribute map each, to the units and persons that are kept. Pure; never raises on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from services.directory import parsing, positions
from services.directory.parsing import Hours, Notice, Rt90, Unparsed

Value = TypeVar("Value")

# Raised when the same record would give other columns than before, so that unchanged sources are read anew.
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it came. `fault`: why it can't be taken, though it is there."""

    dn: str
    attributes: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedPart:
    """A value that is not usable: which, why, and as it came."""

    field: str
    reason: str
    value: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit or a function, in types. Attributes without a column of their own are in the details."""

    hsa_id: str
    dn: str
    kind: str
    name: str
    place: str | None
    county_code: str | None
    municipality_code: str | None
    care_provider: str | None
    coordinates: Rt90 | None
    business_types: tuple[str, ...]
    care_types: tuple[str, ...]
    destinations: tuple[str, ...]
    start_date: datetime | None
    end_date: datetime | None
    details: dict[str, Any]
    refused: tuple[RefusedPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """A member of staff. Nothing but what is used: no identity number, no address of home (R-ID-14)."""

    hsa_id: str
    given_name: str | None
    surname: str | None
    title: str | None
    email: str | None
    mobile: str | None
    protected: bool
    hidden: bool
    end_date: datetime | None
    refused: tuple[RefusedPart, ...] = ()


@dataclass
class _Reader:
    """Takes values out of an attribute map by their lower-case names, and notes what it had to refuse."""

    attributes: Mapping[str, list[str]]
    refused: list[RefusedPart] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        return self.attributes.get(name, [])

    def all(self, name: str, parse: Callable[[str], Value | Unparsed]) -> list[Value]:
        taken: list[Value] = []
        for text in self.texts(name):
            value = parse(text)
            if isinstance(value, Unparsed):
                self.refused.append(RefusedPart(name, value.reason, text))
            elif value not in taken:
                taken.append(value)
        return taken

    def first(self, name: str, parse: Callable[[str], Value | Unparsed]) -> Value | None:
        return next(iter(self.all(name, parse)), None)

    def line(self, name: str) -> str | None:
        return next(filter(None, map(parsing.line, self.texts(name))), None)

    def prose(self, name: str) -> str | None:
        return "\n".join(filter(None, map(parsing.prose, self.texts(name)))) or None

    def codes(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, map(parsing.line, self.texts(name)))))


def _reader(attributes: Mapping[str, Any]) -> _Reader:
    reader = _Reader({})
    taken: dict[str, list[str]] = {}
    for key, raw in attributes.items():
        name = parsing.storable(key).casefold()
        if name.endswith("_text"):  # decoded code tables; the codes themselves are read
            continue
        texts, strange = parsing.values(raw)
        taken.setdefault(name, []).extend(texts)
        if strange:
            reader.refused.append(RefusedPart(name, "not_text", ""))
    reader.attributes = taken
    return reader


def _identity(reader: _Reader) -> str | Unparsed:
    given = reader.texts("hsaidentity")
    return parsing.hsa_id(given[0]) if given else Unparsed("no_hsa_id")


def _rdn(dn: str) -> tuple[str, str]:
    """Type and value of a name's first part; a comma in the value stands escaped."""
    head = dn.replace("\\,", "\x00").split(",")[0]
    kind, _, value = head.partition("=")
    return kind.strip().casefold(), parsing.line(value.replace("\x00", ",").replace("\\", ""))


_PHONES = {
    "public_phone": "hsapublictelephonenumber",
    "phone": "hsatelephonenumber",
    "switchboard": "hsasedfswitchboardtelephoneno",
    "text_phone": "hsatextphonenumber",
    "sms": "hsasmstelephonenumber",
    "mobile": "mobiletelephonenumber",
    "fax": "facsimiletelephonenumber",
}
_HOURS = {
    "surgery_hours": "hsasurgeryhours",
    "phone_hours": "hsatelephonetime",
    "drop_in_hours": "hsadropinhours",
    "visiting_hours": "hsavisitinghours",
}
_ADDRESSES = {
    "street_address": "hsastreetaddress",
    "postal_address": "hsapostaladdress",
    "delivery_address": "hsasedfdeliveryaddress",
    "invoice_address": "hsasedfinvoiceaddress",
    "internal_address": "hsainternaladdress",
    "consignee_address": "hsaconsigneeaddress",
}
_TEXTS = {
    "description": "description",
    "route": "hsaroute",
    "referral": "vgrrefinfo",
    "visiting_rules": "hsavisitingrules",
    "visiting_rules_age": "hsavisitingruleage",
    "visiting_rules_referral": "hsavisitingrulereferral",
}

UNIT_ATTRIBUTES = (
    *("hsaIdentity", "objectClass", "ou", "cn", "l", "description", "mail"),
    *("organizationalUnitNameShort", "vgrOrganizationalUnitNameShort"),
    *("labeledURI", "vgrLabeledURI", "postalCode", "vgrCareType", "hsaBusinessType", "hsaBusinessClassificationCode"),
    *("hsaManagementCode", "hsaDestinationIndicator", "hsaCountyCode", "hsaMunicipalityCode", "hsaStartDate"),
    *("hsaEndDate", "hsaGeographicalCoordinates", "hsaResponsibleHealthCareProvider", "vgrTempInfo", "vgrRefInfo"),
    *("hsaPublicTelephoneNumber", "hsaTelephoneNumber", "hsaSedfSwitchboardTelephoneNo", "hsaTextPhoneNumber"),
    *("hsaSmsTelephoneNumber", "mobileTelephoneNumber", "facsimileTelephoneNumber", "hsaSurgeryHours"),
    *("hsaTelephoneTime", "hsaDropInHours", "hsaVisitingHours", "hsaStreetAddress", "hsaPostalAddress"),
    *("hsaSedfDeliveryAddress", "hsaSedfInvoiceAddress", "hsaInternalAddress", "hsaConsigneeAddress", "hsaRoute"),
    *("hsaVisitingRules", "hsaVisitingRuleAge", "hsaVisitingRuleReferral"),
)
"""What is asked for about a unit, where a source wants to be told."""
PERSON_ATTRIBUTES = (
    *("hsaIdentity", "objectClass", "givenName", "hsaMiddleName", "sn", "title", "mail", "mobile", "hsaEndDate"),
    *("mobileTelephoneNumber", "hsaProtectedPerson"),
)
"""The same about a person: nothing but what is used."""


def unit(raw: Raw) -> Unit | Unparsed:
    """A unit or function; one without HSA-id or name can't be kept."""
    reader = _reader(raw.attributes)
    identity = _identity(reader)
    if isinstance(identity, Unparsed):
        return identity
    dn = parsing.storable(raw.dn)
    rdn_kind, rdn = _rdn(dn)
    kind = "function" if rdn_kind == "cn" or (not dn and not reader.texts("ou")) else "unit"
    name = reader.line("cn" if kind == "function" else "ou") or reader.line("ou") or reader.line("cn") or rdn
    if not name:
        return Unparsed("no_name")
    details: dict[str, Any] = {key: reader.all(name_, parsing.phone) for key, name_ in _PHONES.items()}
    details |= {key: [_hours(one) for one in reader.all(name_, parsing.hours)] for key, name_ in _HOURS.items()}
    details |= {key: reader.first(name_, parsing.address) for key, name_ in _ADDRESSES.items()}
    details |= {key: reader.prose(name_) for key, name_ in _TEXTS.items()}
    details |= {
        "short_name": reader.line("vgrorganizationalunitnameshort") or reader.line("organizationalunitnameshort"),
        "email": reader.all("mail", parsing.email),
        "links": reader.all("labeleduri", parsing.link) + reader.all("vgrlabeleduri", parsing.link),
        "postal_code": reader.first("postalcode", lambda text: parsing.code(text.replace(" ", ""), 5)),
        "notices": [_notice(one) for one in reader.all("vgrtempinfo", parsing.notice)],
        "business_classifications": reader.codes("hsabusinessclassificationcode"),
        "management": reader.line("hsamanagementcode"),
        "modified": _iso(reader.first("vgrmodifytimestamp", parsing.instant)),
    }
    coordinates = reader.first("hsageographicalcoordinates", parsing.coordinates)
    if coordinates is not None:
        details["position"] = asdict(positions.of(coordinates))
    return Unit(
        hsa_id=identity,
        dn=dn,
        kind=kind,
        name=name,
        place=reader.line("l"),
        county_code=reader.first("hsacountycode", lambda text: parsing.code(text, 2)),
        municipality_code=reader.first("hsamunicipalitycode", lambda text: parsing.code(text, 4)),
        care_provider=reader.first("hsaresponsiblehealthcareprovider", parsing.hsa_id),
        coordinates=coordinates,
        business_types=reader.codes("hsabusinesstype"),
        care_types=reader.codes("vgrcaretype") or reader.codes("caretype"),
        destinations=reader.codes("hsadestinationindicator"),
        start_date=reader.first("hsastartdate", parsing.instant),
        end_date=reader.first("hsaenddate", parsing.instant),
        details={key: value for key, value in details.items() if value},
        refused=tuple(reader.refused),
    )


def person(raw: Raw) -> Person | Unparsed:
    """A member of staff; one without HSA-id can't be kept."""
    reader = _reader(raw.attributes)
    identity = _identity(reader)
    if isinstance(identity, Unparsed):
        return identity
    classes = {text.strip().casefold() for text in reader.texts("objectclass")}
    surname = " ".join(filter(None, (reader.line("hsamiddlename"), reader.line("sn"))))
    return Person(
        hsa_id=identity,
        given_name=reader.line("givenname"),
        surname=surname or None,
        title=reader.line("title"),
        email=reader.first("mail", parsing.email),
        mobile=_first_phone(reader, "mobile", "mobiletelephonenumber"),
        protected=_marked(reader, classes, "hsaconfidentialperson", "protectedperson", "hsaprotectedperson"),
        hidden=_marked(reader, classes, "hiddenobject"),
        end_date=reader.first("hsaenddate", parsing.instant),
        refused=tuple(reader.refused),
    )


def _first_phone(reader: _Reader, *names: str) -> str | None:
    numbers = [number for name in names for number in reader.all(name, parsing.phone)]
    return numbers[0] if numbers else None


def _marked(reader: _Reader, classes: set[str], *names: str) -> bool:
    return any(name in classes or parsing.truth(reader.texts(name)) for name in names)


def _hours(value: Hours) -> dict[str, Any]:
    shown: dict[str, Any] = {"days": list(value.days), "opens": value.opens, "closes": value.closes}
    between = {"first_day": value.first_day, "last_day": value.last_day}
    shown |= {name: day.isoformat() for name, day in between.items() if day}
    return shown | ({"comment": value.comment} if value.comment else {})


def _notice(value: Notice) -> dict[str, Any]:
    return {"first_day": value.first_day.isoformat(), "last_day": value.last_day.isoformat(), "text": value.text}


def _iso(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
